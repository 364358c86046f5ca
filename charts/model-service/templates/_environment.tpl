{{/*
model-service.environment: what the service reads its settings from.
in: root context   out: YAML list
*/}}
{{- define "model-service.environment" -}}
- name: MODEL_SERVICE_APP_NAME
  value: {{ include "model-service.fullname" . | quote }}
- name: MODEL_SERVICE_IMAGE
  value: {{ include "model-service.image" . | quote }}
{{- range $key, $value := pick .Values.model "compatibility" "flavor" "name" "sha256" "uri" }}
- name: MODEL_SERVICE_MODEL_{{ upper $key }}
  value: {{ $value | quote }}
{{- end }}
- name: MODEL_SERVICE_MLFLOW_TRACKING_URI
  value: {{ .Values.mlflow.trackingUri | quote }}
- name: MODEL_SERVICE_CACHE_DIR
  value: /var/cache/model-service
- name: MODEL_SERVICE_LOAD_TIMEOUT_SECONDS
  value: {{ .Values.model.loadTimeoutSeconds | int64 | quote }}
{{- range $key, $value := .Values.api }}
- name: MODEL_SERVICE_{{ snakecase $key | upper }}
  value: {{ toJson $value | quote }}
{{- end }}
- name: MODEL_SERVICE_PAGES_ENABLED
  value: {{ .Values.pages.enabled | quote }}
- name: MODEL_SERVICE_LOG_LEVEL
  value: {{ .Values.logging.level | quote }}
- name: MODEL_SERVICE_LATENCY_BUCKETS
  value: {{ .Values.metrics.latencyBuckets | toJson | quote }}
- name: MODEL_SERVICE_LATENCY_OBJECTIVE_SECONDS
  value: {{ toJson .Values.slo.latency.thresholdSeconds | quote }}
- name: MODEL_SERVICE_DRIFT_MAX_FEATURES
  value: {{ ternary .Values.drift.maxFeatures 0 .Values.drift.enabled | int64 | quote }}
- name: MODEL_SERVICE_SHUTDOWN_SECONDS
  value: {{ sub (sub .Values.terminationGracePeriodSeconds .Values.preStopSleepSeconds) 5 | quote }}
{{- if .Values.mlflow.caBundle.existingConfigMap }}
- name: SSL_CERT_FILE
  value: {{ printf "/etc/model-service/ca/%s" .Values.mlflow.caBundle.key | quote }}
{{- end }}
{{- if .Values.auth.existingSecret }}
- name: MODEL_SERVICE_API_KEYS_DIR
  value: /etc/model-service/api-keys
{{- end }}
{{- if .Values.feedback.existingSecret }}
- name: MODEL_SERVICE_FEEDBACK_KEYS_DIR
  value: /etc/model-service/feedback-keys
- name: MODEL_SERVICE_FEEDBACK_MAX_AGE_SECONDS
  value: {{ .Values.feedback.maxAgeSeconds | int64 | quote }}
{{- end }}
{{- with .Values.logging.payload }}
{{- if .enabled }}
- name: MODEL_SERVICE_PAYLOAD_SAMPLE_RATIO
  value: {{ toJson .sampleRatio | quote }}
- name: MODEL_SERVICE_PAYLOAD_REDACT
  value: {{ toJson .redact | quote }}
{{- end }}
{{- end }}
{{- with .Values.tracing }}
{{- if .otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otlpEndpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ toJson .sampleRatio | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
