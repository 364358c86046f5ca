{{/*
mlflow.env: environment that the preparation, the server and garbage collection share.
in: root context   out: YAML list
*/}}
{{- define "mlflow.env" -}}
- name: HOME
  value: /home/mlflow
- name: MLFLOW_DISABLE_TELEMETRY
  value: "true"
- name: MLFLOW_BACKEND_STORE_URI
  {{- with .Values.mlflow.backendStoreUriFrom }}
  valueFrom:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  value: {{ coalesce .Values.mlflow.backendStoreUri "sqlite:////mlflow/mlflow.db" | quote }}
  {{- end }}
- name: MLFLOW_ARTIFACTS_DESTINATION
  value: {{ coalesce .Values.mlflow.artifactsDestination "/mlflow/artifacts" | quote }}
{{- with .Values.s3 }}
{{- range $name, $value := dict "MLFLOW_S3_ENDPOINT_URL" .endpointUrl "AWS_DEFAULT_REGION" .region }}
{{- with $value }}
- name: {{ $name }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
mlflow.envFrom: Secrets and ConfigMaps whose keys are environment variables.
in: root context   out: YAML map, empty when there are none
*/}}
{{- define "mlflow.envFrom" -}}
{{- $sources := .Values.envFrom -}}
{{- with .Values.s3.existingSecret -}}
{{- $sources = prepend $sources (dict "secretRef" (dict "name" .)) -}}
{{- end -}}
{{- with $sources -}}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
