{{/*
model-service.reference: what the kubelet pulls. A digest, when set, wins over the tag.
in: list of the root context and the image's values   out: "registry/repository:tag" or "registry/repository@sha256:…"
*/}}
{{- define "model-service.reference" -}}
{{- $root := first . -}}
{{- with last . -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ coalesce .tag $root.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/*
model-service.job.container: what every container of a job has besides its command.
in: list of the root context, the kind's values and a map with name, image, pullPolicy, env (text), resources, mounts (list)
out: YAML map
*/}}
{{- define "model-service.job.container" -}}
{{- $root := index . 0 -}}{{- $values := index . 1 -}}{{- $own := index . 2 -}}
name: {{ $own.name }}
image: {{ $own.image | quote }}
imagePullPolicy: {{ $own.pullPolicy }}
{{- with $root.Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
env:
  {{- $own.env | nindent 2 }}
{{- with concat (list $root.Values.mlflow.existingSecret) $values.existingSecrets | compact }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . | quote }}
  {{- end }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml $own.resources | nindent 2 }}
volumeMounts:
  {{- concat (include "model-service.job.mounts" $root | fromYamlArray) $own.mounts $values.extraVolumeMounts | toYaml | nindent 2 }}
{{- end -}}

{{/*
model-service.job.mounts: of every container of a job; model-service.job.volumes has the volumes.
in: root context   out: YAML list
*/}}
{{- define "model-service.job.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.mlflow.caBundle.existingConfigMap }}
- {name: mlflow-ca, mountPath: /etc/model-service/ca, readOnly: true}
{{- end }}
{{- end -}}

{{/*
model-service.job.volumes
in: root context   out: YAML list
*/}}
{{- define "model-service.job.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- with .Values.mlflow.caBundle.existingConfigMap }}
- name: mlflow-ca
  configMap:
    name: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
model-service.job.environment: where MLflow is and whom to trust, by the names that Python's ssl and requests know; the
Job's own name, which the run is tagged with; what OpenMP does while it waits.
in: list of the root context and the kind's values   out: YAML list
*/}}
{{- define "model-service.job.environment" -}}
{{- $root := first . -}}{{- $values := last . -}}
- name: MLFLOW_TRACKING_URI
  value: {{ $root.Values.mlflow.trackingUri | quote }}
- name: MODEL_SERVICE_MLFLOW_TRACKING_URI
  value: {{ $root.Values.mlflow.trackingUri | quote }}
- name: JOB_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['batch.kubernetes.io/job-name']
- name: MLFLOW_RUN_CONTEXT
  value: {{ dict "k8s.job" "$(JOB_NAME)" "k8s.namespace" (include "model-service.namespace" $root) | toJson | quote }}
{{- with $root.Values.mlflow.caBundle }}
{{- if .existingConfigMap }}
{{- $path := printf "/etc/model-service/ca/%s" .key }}
- name: SSL_CERT_FILE
  value: {{ $path | quote }}
- name: REQUESTS_CA_BUNDLE
  value: {{ $path | quote }}
{{- end }}
{{- end }}
{{- with $values.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
