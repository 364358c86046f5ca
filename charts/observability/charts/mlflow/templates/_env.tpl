{{/*
mlflow.env: environment that the preparation, the server and garbage collection share.
in: root context   out: YAML list
*/}}
{{- define "mlflow.env" -}}
{{- $stores := .Values.mlflow | default dict -}}
- name: HOME
  value: /home/mlflow
- name: MLFLOW_DISABLE_TELEMETRY
  value: "true"
- name: MLFLOW_BACKEND_STORE_URI
  {{- with $stores.backendStoreUriFrom }}
  valueFrom:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  value: {{ coalesce $stores.backendStoreUri "sqlite:////mlflow/mlflow.db" | quote }}
  {{- end }}
- name: MLFLOW_ARTIFACTS_DESTINATION
  value: {{ coalesce $stores.artifactsDestination "/mlflow/artifacts" | quote }}
{{- with .Values.s3 }}
{{- range $name, $value := dict "MLFLOW_S3_ENDPOINT_URL" .endpointUrl "AWS_DEFAULT_REGION" .region }}
{{- with $value }}
- name: {{ $name }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
mlflow.envFrom: Secrets and ConfigMaps whose keys become environment variables.
in: root context   out: YAML map, empty without any
*/}}
{{- define "mlflow.envFrom" -}}
{{- $sources := .Values.extraEnvFrom | default list -}}
{{- with (.Values.s3).existingSecret -}}
{{- $sources = prepend $sources (dict "secretRef" (dict "name" .)) -}}
{{- end -}}
{{- with $sources -}}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/*
mlflow.secretEnv: environment variables that are read from the administrator's Secret.
in: list of the Secret's name and a map of variable names to keys   out: YAML list
*/}}
{{- define "mlflow.secretEnv" -}}
{{- $secret := first . -}}
{{- range $name, $key := last . }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {{ dict "name" $secret "key" $key | toJson }}
{{- end }}
{{- end -}}

{{/*
mlflow.authEnv: what the preparation and the server need to authenticate requests.
in: root context   out: YAML list, empty without authentication
*/}}
{{- define "mlflow.authEnv" -}}
{{- with .Values.auth -}}
{{- if .enabled -}}
- name: MLFLOW_AUTH_CONFIG_PATH
  value: /etc/mlflow/basic_auth.ini
{{- $keys := dict "MLFLOW_AUTH_ADMIN_USERNAME" .usernameKey "MLFLOW_AUTH_ADMIN_PASSWORD" .passwordKey "MLFLOW_FLASK_SERVER_SECRET_KEY" .secretKeyKey }}
{{- include "mlflow.secretEnv" (list .existingSecret $keys) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
mlflow.clientEnv: the server's address and, with authentication, the administrator's login for the chart's own clients.
in: root context   out: YAML list
*/}}
{{- define "mlflow.clientEnv" -}}
- name: MLFLOW_TRACKING_URI
  value: http://{{ include "mlflow.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.server.clusterDomain }}:{{ .Values.service.port }}{{ .Values.server.staticPrefix }}
{{- with .Values.auth }}
{{- if .enabled }}
{{- $keys := dict "MLFLOW_TRACKING_USERNAME" .usernameKey "MLFLOW_TRACKING_PASSWORD" .passwordKey }}
{{- include "mlflow.secretEnv" (list .existingSecret $keys) }}
{{- end }}
{{- end }}
{{- end -}}
