{{- /* Pods and containers: what Pod Security "restricted" asks for, in one place. */ -}}

{{- define "nesycd.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "nesycd.pod.security" -}}
runAsNonRoot: true
{{- with .Values.security.runAsUser }}
runAsUser: {{ int64 . }}
{{- end }}
{{- with .Values.security.runAsGroup }}
runAsGroup: {{ int64 . }}
{{- end }}
{{- with .Values.security.fsGroup }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /*
The template of a pod. dict:
  root, component (its label and name), role (of its image), values (the component's), command (list),
  env, ports, probes, mounts, volumes, init (YAML text of list items; may be empty), config (text of its ConfigMap),
  once (it ends by itself), early (there are no accounts yet), account (default: the component), grace (seconds), resources, gpu (values or nil), peerRole (label for the network policies)
*/ -}}
{{- define "nesycd.pod" -}}
{{- $defaults := .root.Values.podDefaults -}}
{{- $values := .values -}}
{{- $gpu := and .gpu .gpu.enabled -}}
metadata:
  labels:
    {{- /* No version: a new chart alone restarts no pod. */}}
    {{- include "nesycd.selector" . | nindent 4 }}
    app.kubernetes.io/part-of: nesycd
    nesycd.dev/role: {{ .peerRole | default .component }}
    {{- with merge (dict) ($values.podLabels | default dict) ($defaults.podLabels | default dict) (.root.Values.commonLabels | default dict) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ .config | sha256sum }}
    {{- if .root.Values.secrets.create }}
    checksum/secrets: {{ toJson .root.Values.secrets.values | sha256sum }}
    {{- end }}
    {{- with merge (dict) ($values.podAnnotations | default dict) ($defaults.podAnnotations | default dict) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if .once }}
  restartPolicy: Never
  {{- end }}
  {{- if not .early }}
  serviceAccountName: {{ include "nesycd.fullname" .root }}-{{ .account | default .component }}
  {{- end }}
  automountServiceAccountToken: false
  # Or a Service of this release would set variables such as NESYCD_TEACHER_PORT.
  enableServiceLinks: false
  {{- with .root.Values.global.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "nesycd.pod.security" .root | nindent 4 }}
  terminationGracePeriodSeconds: {{ .grace }}
  {{- with $values.priorityClassName | default $defaults.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $gpu }}
  {{- with .gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- end }}
  {{- $selector := $values.nodeSelector | default $defaults.nodeSelector }}
  {{- if $gpu }}{{ $selector = merge (dict) (.gpu.nodeSelector | default dict) ($selector | default dict) }}{{ end }}
  {{- with $selector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $tolerations := concat ($values.tolerations | default list) ($defaults.tolerations | default list) }}
  {{- if $gpu }}{{ $tolerations = concat $tolerations (.gpu.tolerations | default list) }}{{ end }}
  {{- with $tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity | default $defaults.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $hosts := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" }}
  {{- /* Without a selector Kubernetes would spread no pods at all. */}}
  {{- $own := dict "labelSelector" (dict "matchLabels" (include "nesycd.selector" . | fromYaml)) }}
  topologySpreadConstraints:
    {{- range $values.topologySpreadConstraints | default $defaults.topologySpreadConstraints | default (list $hosts) }}
    - {{- toYaml (merge (dict) . (ternary (dict) $own (hasKey . "labelSelector"))) | nindent 6 }}
    {{- end }}
  {{- with .init }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .containerName | default .component }}
      image: {{ include "nesycd.image" (dict "root" .root "role" .role) }}
      imagePullPolicy: {{ .root.Values.images.pullPolicy }}
      command:
        {{- toYaml .command | nindent 8 }}
      {{- if .configMap }}
      envFrom:
        - configMapRef:
            name: {{ include "nesycd.fullname" .root }}-{{ .component }}
        {{- with .secretEnv }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      {{- end }}
      {{- $env := trim (.env | default "") }}
      {{- $extraEnv := concat ($defaults.extraEnv | default list) ($values.extraEnv | default list) }}
      {{- if or $env $extraEnv }}
      env:
        {{- with $env }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- with .ports }}
      ports:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .probes }}
      {{- . | nindent 6 }}
      {{- end }}
      resources:
        {{- include "nesycd.resources" (dict "resources" .resources "gpu" .gpu) | nindent 8 }}
      securityContext:
        {{- include "nesycd.container.security" . | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if and .tls .root.Values.tls.enabled }}
        - name: tls
          mountPath: /etc/nesycd/tls
          readOnly: true
        {{- end }}
        {{- with .mounts }}
        {{- . | trim | nindent 8 }}
        {{- end }}
        {{- with concat ($defaults.extraVolumeMounts | default list) ($values.extraVolumeMounts | default list) }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ $values.tmpSize | default $defaults.tmpSize }}
    {{- if and .tls .root.Values.tls.enabled }}
    - name: tls
      secret:
        secretName: {{ .root.Values.tls.existingSecret }}
        defaultMode: 0440
    {{- end }}
    {{- with .volumes }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    {{- with concat ($defaults.extraVolumes | default list) ($values.extraVolumes | default list) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* How the pods of a component are replaced; its values. */ -}}
{{- define "nesycd.strategy" -}}
type: RollingUpdate
rollingUpdate:
  {{- if (.gpu | default dict).enabled }}
  # One more pod would wait for a GPU: one goes first, and the others go on. `helm --wait` waits for all but that one.
  maxSurge: 0
  maxUnavailable: 1
  {{- else }}
  maxSurge: 1
  maxUnavailable: 0
  {{- end }}
{{- end -}}

{{- /* Requests and limits, with the GPUs in both; dict: resources, gpu. */ -}}
{{- define "nesycd.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if and .gpu .gpu.enabled -}}
{{- range list "requests" "limits" -}}
{{- $_ := set (index $resources .) $.gpu.resource (int64 $.gpu.count) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- /*
Probes of a gRPC server: "" is whether the process answers, the service's name whether it is ready. Kubernetes' own gRPC
probes speak no TLS: with it a small client asks, at longer intervals because it starts a Python. dict: root, service, startSeconds.
*/ -}}
{{- define "nesycd.probes.grpc" -}}
{{- $port := index (include "nesycd.ports" . | fromYaml) .service -}}
{{- $name := index (include "nesycd.grpcNames" . | fromYaml) .service -}}
{{- if .root.Values.tls.enabled -}}
{{- $ask := list "python" "-m" "services.common.probe" (upper .service) (printf "%s-%s" (include "nesycd.fullname" .root) .service) -}}
startupProbe:
  exec:
    command: {{ toJson $ask }}
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: {{ div .startSeconds 5 }}
readinessProbe:
  exec:
    command: {{ toJson (append $ask $name) }}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 2
livenessProbe:
  exec:
    command: {{ toJson $ask }}
  periodSeconds: 30
  timeoutSeconds: 15
  failureThreshold: 4
{{- else -}}
startupProbe:
  grpc:
    port: {{ $port }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div .startSeconds 2 }}
readinessProbe:
  grpc:
    port: {{ $port }}
    service: {{ $name }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  grpc:
    port: {{ $port }}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 4
{{- end }}
{{- end -}}

{{- /* A memory file system for shared memory; torch's processes pass tensors through it. */ -}}
{{- define "nesycd.shm.volume" -}}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end -}}

{{- define "nesycd.shm.mount" -}}
- name: shm
  mountPath: /dev/shm
{{- end -}}

{{- define "nesycd.artifacts.volume" -}}
{{- if not (include "nesycd.artifacts.remote" .) }}
- name: artifacts
  persistentVolumeClaim:
    claimName: {{ include "nesycd.artifacts.claim" . }}
{{- end }}
{{- end -}}

{{- define "nesycd.artifacts.mount" -}}
{{- if not (include "nesycd.artifacts.remote" .) }}
- name: artifacts
  mountPath: /var/lib/nesycd/artifacts
{{- end }}
{{- end -}}

{{- define "nesycd.server.ports" -}}
- name: grpc
  containerPort: {{ index (include "nesycd.ports" . | fromYaml) .service }}
{{- if .root.Values.monitoring.metrics.enabled }}
- name: metrics
  containerPort: {{ .root.Values.monitoring.metrics.port }}
{{- end }}
{{- end -}}

{{- /* How long after SIGTERM a server is waited for: what it grants its calls, and to close; dict: root, service. */ -}}
{{- define "nesycd.server.grace" -}}
{{ add (include "nesycd.drain.delay" . | int) (int .root.Values.drain.graceSeconds) 15 }}
{{- end -}}
