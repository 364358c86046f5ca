{{/*
model-service.batch.pod: score a data set. Each Job writes a folder of its own, named after it: a pod that takes another's
place goes on there, and the next Job does not touch it. The service's own volumes are there too, for a file:/// model.
in: root context   out: YAML map, the spec of a pod
*/}}
{{- define "model-service.batch.pod" -}}
{{- $batch := .Values.batch -}}
{{- $environment := printf "%s\n%s" (include "model-service.job.environment" (list . $batch)) (include "model-service.batch.environment" .) -}}
{{- $mounts := .Values.extraVolumeMounts -}}
{{- if $batch.existingClaim }}{{ $mounts = append $mounts (dict "name" "batch" "mountPath" "/batch") }}{{ end -}}
{{- $own := dict "name" "score" "image" (include "model-service.reference" (list . .Values.training.image)) "mounts" $mounts -}}
{{- $own = merge $own (dict "pullPolicy" .Values.training.image.pullPolicy "env" $environment "resources" $batch.resources) -}}
{{- include "model-service.job.pod" (list . $batch) }}
containers:
  - command: [/opt/venv/bin/python, -m, training, score]
    {{- include "model-service.job.container" (list . $batch $own) | nindent 4 }}
volumes:
  {{- include "model-service.job.volumes" . | nindent 2 }}
  {{- with $batch.existingClaim }}
  - name: batch
    persistentVolumeClaim:
      claimName: {{ . | quote }}
  {{- end }}
  {{- with concat .Values.extraVolumes $batch.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
model-service.batch.environment: what `python -m training score` is told.
in: root context   out: YAML list
*/}}
{{- define "model-service.batch.environment" -}}
{{- $batch := .Values.batch -}}
- name: TRAINING_MODEL_URI
  value: {{ coalesce $batch.model .Values.model.uri | quote }}
- name: TRAINING_MODEL_SHA256
  value: {{ ternary "" .Values.model.sha256 (not (empty $batch.model)) | quote }}
- name: TRAINING_DATA
  value: {{ $batch.data | quote }}
- name: TRAINING_OUTPUT
  value: {{ printf "%s/$(JOB_NAME)" (trimSuffix "/" $batch.output) | quote }}
- name: TRAINING_KEEP
  value: {{ toJson $batch.keep | quote }}
- name: TRAINING_ON_ERROR
  value: {{ $batch.onError | quote }}
- name: TRAINING_PART_ROWS
  value: {{ $batch.partRows | int64 | quote }}
{{- end -}}
