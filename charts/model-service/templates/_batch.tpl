{{/*
model-service.batch.pod: score a data set. Each Job writes to its own folder, named after the Job: a replacement pod continues
there, and the next Job does not touch it. The pod mounts the service's volumes too, for a model at file:///.
in: the job   out: YAML map
*/}}
{{- define "model-service.batch.pod" -}}
{{- $worker := include "model-service.batch.worker" . | fromYaml -}}
{{- with .values -}}
containers:
  - name: score
    {{- include "model-service.job.container" (list $ .image .resources) | nindent 4 }}
    command: [/opt/venv/bin/python, -m, training, score]
    env:
      {{- include "model-service.job.env" $ | nindent 6 }}
      - name: TRAINING_MODEL_URI
        value: {{ coalesce .model $.root.Values.model.uri "" | quote }}
      - name: TRAINING_MODEL_SHA256
        value: {{ ternary "" $.root.Values.model.sha256 (not (empty .model)) | default "" | quote }}
      {{- if $worker }}
      - {name: TRAINING_MODEL_FLAVOR, value: pyfunc}
      - {name: TRAINING_WORKER_SOCKET, value: /run/model-service/socket}
      - {name: TRAINING_CACHE_DIR, value: /var/cache/model-service}
      {{- end }}
      {{- if and (not .model) $.root.Values.model.categories }}
      - name: TRAINING_MODEL_CATEGORIES
        value: {{ toJson $.root.Values.model.categories | quote }}
      {{- end }}
      {{- if and (not .model) $.root.Values.model.unknownCategory }}
      - name: TRAINING_UNKNOWN_CATEGORY
        value: {{ $.root.Values.model.unknownCategory | quote }}
      {{- end }}
      - name: TRAINING_DATA
        value: {{ .data | default "" | quote }}
      - name: TRAINING_OUTPUT
        value: {{ printf "%s/$(JOB_NAME)" (.output | default "" | trimSuffix "/") | quote }}
      - name: TRAINING_KEEP
        value: {{ .keep | default list | toJson | quote }}
      {{- with .onError }}
      - name: TRAINING_ON_ERROR
        value: {{ . | quote }}
      {{- end }}
      {{- range $key, $value := .csv }}{{ with $value }}
      - name: TRAINING_CSV_{{ upper $key }}
        value: {{ . | quote }}
      {{- end }}{{ end }}
      {{- with .partRows }}
      - name: TRAINING_PART_ROWS
        value: {{ toJson . | quote }}
      {{- end }}
    volumeMounts:
      {{- include "model-service.job.mounts" $ | nindent 6 }}
      {{- with $.root.Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- if $worker }}
      - {name: cache, mountPath: /var/cache/model-service, readOnly: true}
      - {name: worker, mountPath: /run/model-service}
      {{- end }}
      {{- if .existingClaim }}
      - {name: batch, mountPath: /batch}
      {{- end }}
{{- with $worker.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "model-service.job.volumes" $ | nindent 2 }}
  {{- with $.root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $worker.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .existingClaim }}
  - name: batch
    persistentVolumeClaim:
      claimName: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
model-service.batch.worker: containers and volumes of a model of another flavor, as in the service's pods. The one that runs the
model is a sidecar, so that the Job completes. Nothing is shared with the service's pods, neither a cache nor a download.
in: the job   out: YAML map with initContainers and volumes, or "" for XGBoost models
*/}}
{{- define "model-service.batch.worker" -}}
{{- $values := deepCopy .root.Values -}}
{{- if .values.model -}}
{{- $_ := set $values.model "uri" .values.model -}}
{{- $_ := set $values.model "sha256" "" -}}
{{- end -}}
{{- $_ := set $values.model "peers" (dict "enabled" false) -}}
{{- $_ := set $values.model "cache" dict -}}
{{- $root := set (omit .root "Values") "Values" $values -}}
{{- with include "model-service.worker" $root | fromYaml -}}
{{- $sidecar := set (first .containers) "restartPolicy" "Always" -}}
initContainers:
  {{- toYaml (append .initContainers $sidecar) | nindent 2 }}
volumes:
  {{- toYaml .volumes | nindent 2 }}
  {{- include "model-service.model.volumes" $root | nindent 2 }}
{{- end -}}
{{- end }}
