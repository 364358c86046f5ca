{{/*
model-service.env: environment variables of the service. A value that was set to null leaves the default of the service.
in: root context   out: YAML list
*/}}
{{- define "model-service.env" -}}
{{- $api := .Values.api | default dict -}}
{{- $pod := .Values.pod | default dict -}}
{{- $monitoring := .Values.monitoring | default dict -}}
{{- $grace := sub (default 30 $pod.terminationGracePeriodSeconds) (default 0 $pod.preStopSleepSeconds) -}}
{{- $settings := dict
  "APP_NAME" (include "model-service.fullname" .)
  "IMAGE" (include "model-service.image" (list . .Values.image))
  "CACHE_DIR" "/var/cache/model-service"
  "MLFLOW_TRACKING_URI" .Values.mlflow.trackingUri
  "LOG_LEVEL" (.Values.logging).level
  "MONITORING_PORT" 8002
  "LATENCY_BUCKETS" $monitoring.latencyBuckets
  "LATENCY_OBJECTIVE_SECONDS" (($monitoring.slo).latency).thresholdSeconds
  "DRIFT_MAX_FEATURES" ($monitoring.drift).maxFeatures
  "SHUTDOWN_SECONDS" (sub $grace 5)
  "PAGES_ENABLED" ($api.pages).enabled
  "LOAD_TIMEOUT_SECONDS" .Values.model.loadTimeoutSeconds
  "MODEL_MAX_BYTES" .Values.model.maxBytes
-}}
{{- range $key, $value := omit .Values.model "cache" "categories" "environment" "follow" "loadTimeoutSeconds" "maxBytes" "peers" "unknownCategory" "worker" }}{{ $_ := set $settings (printf "MODEL_%s" (upper $key)) $value }}{{ end -}}
{{- with include "model-service.model.mount" . | fromYaml }}{{ $_ := set $settings "MODEL_URI" .uri }}{{ $_ := set $settings "MODEL_NAME" ($.Values.model.name | default .name) }}{{ end -}}
{{- with .Values.model.categories }}{{ $_ := set $settings "MODEL_CATEGORIES" . }}{{ end -}}
{{- with .Values.model.unknownCategory }}{{ $_ := set $settings "MODEL_UNKNOWN_CATEGORY" . }}{{ end -}}
{{- if eq .Values.model.flavor "pyfunc" -}}
{{- $settings = merge $settings (dict "WORKER_BATCH_ROWS" (.Values.model.worker).batchRows) -}}
{{- with .Values.model.environment -}}
{{- if and .install (not (.image).tag) (not (.image).digest) }}{{ $_ := set $settings "WORKER_PYTHON" .python }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := omit $api "auth" "feedback" "grpc" "pages" "quotas" }}{{ $_ := set $settings (snakecase $key | upper) $value }}{{ end -}}
{{- if ($api.grpc).enabled }}{{ $_ := set $settings "GRPC_PORT" 8003 }}{{ end -}}
{{- if ($api.auth).existingSecret }}{{ $_ := set $settings "API_KEYS_DIR" "/etc/model-service/api-keys" }}{{ end -}}
{{- with ($api.auth).jwt -}}
{{- if .issuer -}}
{{- range $key, $value := omit . "existingConfigMap" }}{{ $_ := set $settings (printf "JWT_%s" (snakecase $key | upper)) $value }}{{ end -}}
{{- if .existingConfigMap }}{{ $_ := set $settings "JWT_JWKS_FILE" "/etc/model-service/jwks/jwks.json" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if include "model-service.quotas" . }}{{ $_ := set $settings "QUOTAS_FILE" "/etc/model-service/quotas/quotas.json" }}{{ end -}}
{{- if ($api.feedback).existingSecret -}}
{{- $settings = merge $settings (dict "FEEDBACK_KEYS_DIR" "/etc/model-service/feedback-keys" "FEEDBACK_MAX_AGE_SECONDS" $api.feedback.maxAgeSeconds) -}}
{{- end -}}
{{- with (.Values.logging).payload -}}
{{- if .sampleRatio -}}
{{- $settings = merge $settings (dict "PAYLOAD_SAMPLE_RATIO" .sampleRatio "PAYLOAD_REDACT" .redact) -}}
{{- end -}}
{{- if eq (toString .sink) "parquet" -}}
{{- $_ := set $settings "PAYLOAD_DIR" "/var/lib/model-service/payload" -}}
{{- range $key, $value := pick (.parquet | default dict) "flushSeconds" "rotateSeconds" "bufferBytes" }}{{ $_ := set $settings (printf "PAYLOAD_%s" (snakecase $key | upper)) $value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with include "model-service.peers" . -}}
{{- $settings = merge $settings (dict "PEERS_HOST" . "PEERS_PATIENCE_SECONDS" ($.Values.model.peers).patienceSeconds) -}}
{{- end -}}
{{- with .Values.model.follow -}}
{{- if .enabled -}}
{{- range $key, $value := omit . "enabled" }}{{ $_ := set $settings (printf "FOLLOW_%s" (snakecase $key | upper)) $value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if and (.Values.training).enabled (regexMatch "^models:/[^/@]+[/@]" .Values.model.uri) -}}
{{- $_ := set $settings "CANDIDATE_POLL_SECONDS" 300 -}}
{{- end -}}
{{- with .Values.challenger -}}
{{- if .uri -}}
{{- range $key, $value := . }}{{ $_ := set $settings (printf "CHALLENGER_%s" (snakecase $key | upper)) $value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}
- name: MODEL_SERVICE_{{ $name }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- if include "model-service.peers" . }}
- name: MODEL_SERVICE_REVISION
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['pod-template-hash']
{{- end }}
{{- with .Values.mlflow.caBundle }}
{{- if .existingConfigMap }}
- name: SSL_CERT_FILE
  value: {{ printf "/etc/model-service/ca/%s" .key | quote }}
{{- end }}
{{- end }}
{{- with $monitoring.tracing }}
{{- if .otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otlpEndpoint | quote }}
{{- if not (kindIs "invalid" .sampleRatio) }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ toJson .sampleRatio | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
model-service.quotas: quotas of callers, as the service reads them.
in: root context   out: JSON, or "" if there are none
*/}}
{{- define "model-service.quotas" -}}
{{- with (.Values.api).quotas -}}
{{- if or (.default).requestsPerSecond (.default).rowsPerSecond .owners -}}
{{- dict "default" (.default | default dict) "owners" (.owners | default dict) | toJson -}}
{{- end -}}
{{- end -}}
{{- end -}}
