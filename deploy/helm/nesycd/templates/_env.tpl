{{- /* Environment from Secrets, for the `env` list of a container. */ -}}

{{- /* One variable from a Secret; dict: root, variable, secret, key. */ -}}
{{- define "nesycd.env.secret" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "nesycd.secret" (dict "root" .root "name" .secret) }}
      key: {{ .key }}
{{- end -}}

{{- /* The address of Redis with its password in the variables of one process; dict: root, variables. */ -}}
{{- define "nesycd.env.redis" -}}
{{- if include "nesycd.redis.authenticated" .root }}
{{ include "nesycd.env.secret" (dict "root" .root "variable" "REDIS_PASSWORD" "secret" .root.Values.redis.existingSecret "key" .root.Values.redis.passwordKey) }}
{{- end }}
{{- range .variables }}
- name: {{ . }}
  value: {{ include "nesycd.redis.url" $.root | quote }}
{{- end }}
{{- end -}}

{{- /* The key of Weaviate in a variable of one process; dict: root, variable. */ -}}
{{- define "nesycd.env.weaviate" -}}
{{- if include "nesycd.weaviate.authenticated" .root }}
{{ include "nesycd.env.secret" (dict "root" .root "variable" .variable "secret" .root.Values.weaviate.existingSecret "key" .root.Values.weaviate.apiKeyKey) }}
{{- end }}
{{- end -}}

{{- /* The token that services ask for and send; dict: root, variables. */ -}}
{{- define "nesycd.env.token" -}}
{{- if .root.Values.auth.enabled }}
{{- range .variables }}
{{ include "nesycd.env.secret" (dict "root" $.root "variable" . "secret" $.root.Values.auth.existingSecret "key" $.root.Values.auth.tokenKey) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "nesycd.env.teacher" -}}
{{ include "nesycd.env.redis" (dict "root" . "variables" (list "NESYCD_TEACHER_REDIS_URL")) }}
{{ include "nesycd.env.token" (dict "root" . "variables" (list "NESYCD_TEACHER_AUTH_TOKEN")) }}
{{- if .Values.standinTeacher.enabled }}
- name: NESYCD_TEACHER_UPSTREAM_API_KEY
  value: stand-in
{{- else if not .Values.teacher.upstream.anonymous }}
{{ include "nesycd.env.secret" (dict "root" . "variable" "NESYCD_TEACHER_UPSTREAM_API_KEY" "secret" .Values.teacher.upstream.existingSecret "key" .Values.teacher.upstream.apiKeyKey) }}
{{- end }}
{{- end -}}

{{- define "nesycd.env.extraction" -}}
{{ include "nesycd.env.token" (dict "root" . "variables" (list "NESYCD_EXTRACTION_AUTH_TOKEN" "NESYCD_EXTRACTION_PEER_TOKEN")) }}
{{- end -}}

{{- define "nesycd.env.knowledge" -}}
{{ include "nesycd.env.token" (dict "root" . "variables" (list "NESYCD_KNOWLEDGE_AUTH_TOKEN")) }}
{{- if eq .Values.knowledge.store "weaviate" }}
{{ include "nesycd.env.redis" (dict "root" . "variables" (list "NESYCD_KNOWLEDGE_REDIS_URL")) }}
{{ include "nesycd.env.weaviate" (dict "root" . "variable" "NESYCD_KNOWLEDGE_WEAVIATE_API_KEY") }}
{{- end }}
{{- with .Values.knowledge.embedder.existingSecret }}
{{ include "nesycd.env.secret" (dict "root" $ "variable" "NESYCD_KNOWLEDGE_EMBEDDER_API_KEY" "secret" . "key" $.Values.knowledge.embedder.apiKeyKey) }}
{{- end }}
{{- end -}}

{{- define "nesycd.env.student" -}}
{{ include "nesycd.env.token" (dict "root" . "variables" (list "NESYCD_STUDENT_AUTH_TOKEN" "NESYCD_STUDENT_PEER_TOKEN")) }}
{{- with .Values.student.engine.existingSecret }}
{{ include "nesycd.env.secret" (dict "root" $ "variable" "NESYCD_STUDENT_ENGINE_API_KEY" "secret" . "key" $.Values.student.engine.apiKeyKey) }}
{{- end }}
{{- end -}}

{{- define "nesycd.env.runs" -}}
{{ include "nesycd.env.redis" (dict "root" . "variables" (list "NESYCD_RUNS_REDIS_URL")) }}
{{ include "nesycd.env.token" (dict "root" . "variables" (list "NESYCD_RUNS_AUTH_TOKEN")) }}
{{- end -}}

{{- define "nesycd.env.worker" -}}
{{ include "nesycd.env.redis" (dict "root" . "variables" (list "NESYCD_JOBS_REDIS_URL")) }}
{{ include "nesycd.env.token" (dict "root" . "variables" (list "NESYCD_JOBS_PEER_TOKEN")) }}
{{- end -}}
