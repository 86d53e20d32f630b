{{- /* Settings of each process, as lines of a ConfigMap: what the environment of each component is, without secrets. */ -}}

{{- define "nesycd.config.common" -}}
HOME: /tmp
XDG_CACHE_HOME: /tmp/.cache
HF_HOME: /tmp/huggingface
HF_HUB_OFFLINE: "1"
MPLCONFIGDIR: /tmp/matplotlib
NUMBA_CACHE_DIR: /tmp/numba
TORCHINDUCTOR_CACHE_DIR: /tmp/inductor
TRITON_CACHE_DIR: /tmp/triton
OMP_WAIT_POLICY: passive
OPENBLAS_NUM_THREADS: "1"
PYTHONDONTWRITEBYTECODE: "1"
PYTHONUNBUFFERED: "1"
TOKENIZERS_PARALLELISM: "false"
{{- end -}}

{{- /* TLS files for calls to other services; dict: root, prefix. */ -}}
{{- define "nesycd.config.peers" -}}
{{- if .root.Values.tls.enabled }}
{{ .prefix }}PEER_TLS_CA: /etc/nesycd/tls/ca.crt
{{- if .root.Values.tls.mutual }}
{{ .prefix }}PEER_TLS_CERT: /etc/nesycd/tls/tls.crt
{{ .prefix }}PEER_TLS_KEY: /etc/nesycd/tls/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{- /* What every server has; dict: root, service. */ -}}
{{- define "nesycd.config.server" -}}
{{- $prefix := printf "NESYCD_%s_" (upper .service) -}}
{{- $values := .root.Values -}}
{{ include "nesycd.config.common" . }}
{{ $prefix }}HOST: {{ $values.listenHost | quote }}
{{ $prefix }}PORT: {{ index (include "nesycd.ports" . | fromYaml) .service | quote }}
{{ $prefix }}LOG_LEVEL: {{ $values.logLevel }}
{{- $delay := include "nesycd.drain.delay" . | int }}
{{ $prefix }}DRAIN_DELAY_SECONDS: {{ $delay | quote }}
{{ $prefix }}GRACE_SECONDS: {{ add $delay $values.drain.graceSeconds | quote }}
{{- if $values.monitoring.metrics.enabled }}
{{ $prefix }}METRICS_HOST: {{ $values.listenHost | quote }}
{{ $prefix }}METRICS_PORT: {{ $values.monitoring.metrics.port | quote }}
{{- end }}
{{- if $values.tls.enabled }}
{{ $prefix }}TLS_CERT: /etc/nesycd/tls/tls.crt
{{ $prefix }}TLS_KEY: /etc/nesycd/tls/tls.key
{{- if $values.tls.mutual }}
{{ $prefix }}TLS_CLIENT_CA: /etc/nesycd/tls/ca.crt
{{- end }}
{{- else }}
{{ $prefix }}ALLOW_INSECURE: "true"
{{- end }}
{{- include "nesycd.config.peers" (dict "root" .root "prefix" $prefix) }}
{{- include "nesycd.config.settings" (dict "settings" (index $values .service).settings "prefix" $prefix) }}
{{- end -}}

{{- /* 0 where the successor waits for this one's end; dict: root, service. */ -}}
{{- define "nesycd.drain.delay" -}}
{{- $alone := or (and (eq .service "knowledge") (eq .root.Values.knowledge.store "embedded")) (and (eq .service "student") (include "nesycd.student.alone" .root)) -}}
{{- if $alone }}0{{ else }}{{ int .root.Values.drain.delaySeconds }}{{ end -}}
{{- end -}}

{{- /* Free settings of a component; dict: settings, prefix. */ -}}
{{- define "nesycd.config.settings" -}}
{{- range $name, $value := .settings }}
{{ $.prefix }}{{ upper $name }}: {{ include "nesycd.text" $value | quote }}
{{- end }}
{{- end -}}

{{- define "nesycd.config.teacher" -}}
{{ include "nesycd.config.server" (dict "root" . "service" "teacher") }}
NESYCD_TEACHER_UPSTREAM_URL: {{ include "nesycd.teacher.url" . | quote }}
NESYCD_TEACHER_BACKEND: {{ .Values.teacher.upstream.backend }}
NESYCD_TEACHER_DEFAULT_MODEL: {{ include "nesycd.teacher.model" . | quote }}
NESYCD_TEACHER_PRICES: {{ .Values.teacher.prices | default dict | toJson | quote }}
{{- end -}}

{{- define "nesycd.teacher.model" -}}
{{- .Values.teacher.upstream.model | default (ternary "stand-in" "teacher" .Values.standinTeacher.enabled) -}}
{{- end -}}

{{- define "nesycd.teacher.url" -}}
{{- if .Values.standinTeacher.enabled -}}
http://{{ include "nesycd.fullname" . }}-standin:8089
{{- else -}}
{{ .Values.teacher.upstream.url }}
{{- end -}}
{{- end -}}

{{- define "nesycd.config.extraction" -}}
{{ include "nesycd.config.server" (dict "root" . "service" "extraction") }}
NESYCD_EXTRACTION_TEACHER_ADDRESS: {{ include "nesycd.address" (dict "root" . "service" "teacher") }}
NESYCD_EXTRACTION_KNOWLEDGE_ADDRESS: {{ include "nesycd.address" (dict "root" . "service" "knowledge") }}
{{- end -}}

{{- define "nesycd.config.knowledge" -}}
{{ include "nesycd.config.server" (dict "root" . "service" "knowledge") }}
OMP_NUM_THREADS: "1"
NESYCD_KNOWLEDGE_STORE: {{ .Values.knowledge.store }}
NESYCD_KNOWLEDGE_DATA_DIR: /var/lib/nesycd/knowledge
NESYCD_KNOWLEDGE_EMBEDDER: {{ .Values.knowledge.embedder.kind }}
{{- with .Values.knowledge.embedder.model }}
NESYCD_KNOWLEDGE_EMBEDDER_MODEL: {{ . | quote }}
{{- end }}
{{- with .Values.knowledge.embedder.url }}
NESYCD_KNOWLEDGE_EMBEDDER_URL: {{ . | quote }}
{{- end }}
{{- if eq .Values.knowledge.store "weaviate" }}
NESYCD_KNOWLEDGE_WEAVIATE_URL: {{ include "nesycd.weaviate.url" . | quote }}
{{- with .Values.weaviate.grpcHost }}
NESYCD_KNOWLEDGE_WEAVIATE_GRPC_HOST: {{ . | quote }}
{{- end }}
NESYCD_KNOWLEDGE_WEAVIATE_GRPC_PORT: {{ .Values.weaviate.grpcPort | quote }}
{{- if ne .Values.weaviate.grpcSecure "as-url" }}
NESYCD_KNOWLEDGE_WEAVIATE_GRPC_SECURE: {{ .Values.weaviate.grpcSecure | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "nesycd.weaviate.url" -}}
{{- if .Values.weaviate.enabled -}}
http://{{ include "nesycd.fullname" . }}-weaviate:8080
{{- else -}}
{{ .Values.weaviate.url }}
{{- end -}}
{{- end -}}

{{- define "nesycd.config.student" -}}
{{ include "nesycd.config.server" (dict "root" . "service" "student") }}
OMP_NUM_THREADS: {{ .Values.student.threads | quote }}
NESYCD_STUDENT_THREADS: {{ .Values.student.threads | quote }}
{{- if .Values.student.gpu.enabled }}
NESYCD_STUDENT_DEVICE: cuda
{{- end }}
NESYCD_STUDENT_ENGINE: {{ .Values.student.engine.kind }}
{{- with .Values.student.engine.url }}
NESYCD_STUDENT_ENGINE_URL: {{ . | quote }}
{{- end }}
{{- with .Values.student.engine.model }}
NESYCD_STUDENT_ENGINE_MODEL: {{ . | quote }}
{{- end }}
NESYCD_STUDENT_BASE_MODEL: {{ .Values.student.model.name | quote }}
NESYCD_STUDENT_KNOWLEDGE_ADDRESS: {{ include "nesycd.address" (dict "root" . "service" "knowledge") }}
NESYCD_STUDENT_ARTIFACTS_URL: {{ include "nesycd.artifacts.url" . | quote }}
NESYCD_STUDENT_STATE_DIR: /var/lib/nesycd/{{ if include "nesycd.artifacts.remote" . }}student{{ else }}artifacts/state/student{{ end }}
{{- end -}}

{{- define "nesycd.config.runs" -}}
{{ include "nesycd.config.server" (dict "root" . "service" "runs") }}
NESYCD_RUNS_ARTIFACTS_URL: {{ include "nesycd.artifacts.url" . | quote }}
NESYCD_RUNS_LEASE_SECONDS: {{ .Values.leaseSeconds | quote }}
NESYCD_TEACHER_PRICES: {{ .Values.teacher.prices | default dict | toJson | quote }}
{{- end -}}

{{- /* Of every worker; dict: root, worker. */ -}}
{{- define "nesycd.config.worker" -}}
{{ include "nesycd.config.common" . }}
OMP_NUM_THREADS: {{ .worker.threads | quote }}
NESYCD_TORCH_DTYPE: {{ .worker.dtype }}
{{- if .worker.gpu.enabled }}
NESYCD_JOBS_DEVICE: cuda
{{- end }}
NESYCD_JOBS_LOG_LEVEL: {{ .root.Values.logLevel }}
NESYCD_JOBS_ARTIFACTS_URL: {{ include "nesycd.artifacts.url" .root | quote }}
NESYCD_JOBS_SCRATCH_DIR: /var/lib/nesycd/scratch
NESYCD_JOBS_LEASE_SECONDS: {{ .root.Values.leaseSeconds | quote }}
NESYCD_JOBS_HEARTBEAT_FILE: /tmp/nesycd-heartbeat
{{- range list "teacher" "extraction" "knowledge" "student" }}
NESYCD_JOBS_{{ upper . }}_ADDRESS: {{ include "nesycd.address" (dict "root" $.root "service" .) }}
{{- end }}
{{- include "nesycd.config.peers" (dict "root" .root "prefix" "NESYCD_JOBS_") }}
{{- include "nesycd.config.settings" (dict "settings" .worker.settings "prefix" "NESYCD_JOBS_") }}
{{- end -}}

{{- define "nesycd.artifacts.remote" -}}
{{- if .Values.artifacts.url }}yes{{ end -}}
{{- end -}}

{{- define "nesycd.artifacts.url" -}}
{{- .Values.artifacts.url | default "file:///var/lib/nesycd/artifacts" -}}
{{- end -}}

{{- define "nesycd.artifacts.claim" -}}
{{- .Values.artifacts.persistence.existingClaim | default (printf "%s-artifacts" (include "nesycd.fullname" .)) -}}
{{- end -}}

{{- define "nesycd.redis.host" -}}
{{- if .Values.valkey.enabled }}{{ include "nesycd.fullname" . }}-valkey:6379{{ else }}{{ .Values.redis.address }}{{ end -}}
{{- end -}}

{{- define "nesycd.redis.authenticated" -}}
{{- if or .Values.valkey.enabled .Values.redis.existingSecret (and .Values.secrets.create .Values.secrets.values.redisPassword) }}yes{{ end -}}
{{- end -}}

{{- define "nesycd.weaviate.authenticated" -}}
{{- if or .Values.weaviate.enabled .Values.weaviate.existingSecret (and .Values.secrets.create .Values.secrets.values.weaviateApiKey) }}yes{{ end -}}
{{- end -}}

{{- define "nesycd.redis.url" -}}
{{- $user := ternary "" .Values.redis.username .Values.valkey.enabled -}}
{{- $tls := and .Values.redis.tls (not .Values.valkey.enabled) -}}
{{- ternary "rediss" "redis" $tls }}://{{ if include "nesycd.redis.authenticated" . }}{{ $user }}:$(REDIS_PASSWORD)@{{ end }}{{ include "nesycd.redis.host" . }}/{{ .Values.redis.database }}
{{- end -}}
