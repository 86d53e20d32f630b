{{- /* Names, labels, images: what every object has. */ -}}

{{- define "nesycd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* What all names of objects begin with. Without dots, which helm takes and a Service's name may not have. */ -}}
{{- define "nesycd.fullname" -}}
{{- $name := include "nesycd.name" . -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $default | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* Labels that never change; dict: root, component. */ -}}
{{- define "nesycd.selector" -}}
app.kubernetes.io/name: {{ include "nesycd.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* Labels of the chart's own; dict: root, component. */ -}}
{{- define "nesycd.labels.own" -}}
{{ include "nesycd.selector" . }}
app.kubernetes.io/part-of: nesycd
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* All labels of an object; dict: root, component, labels (more of them, which win over commonLabels). */ -}}
{{- define "nesycd.labels" -}}
{{ include "nesycd.labels.own" . }}
{{- with merge (dict) (.labels | default dict) (.root.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* metadata of an object; dict: root, component, name (after the full name; default: the component), labels. */ -}}
{{- define "nesycd.metadata" -}}
name: {{ include "nesycd.fullname" .root }}-{{ .name | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "nesycd.labels" . | nindent 2 }}
{{- end -}}

{{- /* An image, pinned; dict: root, role. */ -}}
{{- define "nesycd.image" -}}
{{- $image := index .root.Values.images .role -}}
{{- $registry := .root.Values.global.imageRegistry | trimSuffix "/" -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- /* Address of a service for gRPC: every pod behind the name, calls spread by the client; dict: root, service. */ -}}
{{- define "nesycd.address" -}}
dns:///{{ include "nesycd.fullname" .root }}-{{ .service }}:{{ index (include "nesycd.ports" . | fromYaml) .service }}
{{- end -}}

{{- define "nesycd.ports" -}}
teacher: 50061
knowledge: 50062
extraction: 50063
student: 50064
runs: 50065
{{- end -}}

{{- define "nesycd.grpcNames" -}}
teacher: nesycd.teacher.v1.TeacherService
knowledge: nesycd.knowledge.v1.KnowledgeService
extraction: nesycd.extraction.v1.ExtractionService
student: nesycd.student.v1.StudentService
runs: nesycd.runs.v1.RunService
{{- end -}}

{{- /* Worker classes that are enabled, each with what workerDefaults says; YAML. */ -}}
{{- define "nesycd.workers" -}}
{{- range $class, $own := .Values.workers }}
{{- $worker := mergeOverwrite (deepCopy $.Values.workerDefaults) $own }}
{{- if $worker.enabled }}
{{ $class }}:
  {{- toYaml $worker | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* "submissions" for a worker that only takes submitted runs, else "worker": what the network lets it reach. */ -}}
{{- define "nesycd.worker.role" -}}
{{- if or (has "nesycd.cpu" .queues) (has "nesycd.gpu" .queues) }}worker{{ else }}submissions{{ end }}
{{- end -}}

{{- /* The name of a Secret: the one that is named, else the chart's own; dict: root, name. */ -}}
{{- define "nesycd.secret" -}}
{{- if .name }}{{ .name }}{{ else }}{{ include "nesycd.fullname" .root }}-secrets{{ end }}
{{- end -}}

{{- /* A value as environment text: whole numbers without exponent, lists and maps as JSON. */ -}}
{{- define "nesycd.text" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else if or (kindIs "map" .) (kindIs "slice" .) -}}
{{- toJson . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{- /* "yes" where the one student has a GPU: the next one begins when it has ended. */ -}}
{{- define "nesycd.student.alone" -}}
{{- if and .Values.student.gpu.enabled (not (include "nesycd.student.several" .)) }}yes{{ end -}}
{{- end -}}

{{- define "nesycd.student.several" -}}
{{- if or (gt (int .Values.student.replicas) 1) .Values.student.autoscaling.enabled }}yes{{ end -}}
{{- end -}}
