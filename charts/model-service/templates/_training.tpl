{{/*
model-service.training.pod: train, then the contract tests of the service in its own image, then the gate. Each hands over
a file; one that fails ends the pod, so that the alias moves last or not at all. With several workers only the first has
something to verify.
in: root context   out: YAML map, the spec of a pod
*/}}
{{- define "model-service.training.pod" -}}
{{- $training := .Values.training -}}
{{- $handover := list (dict "name" "handover" "mountPath" "/handover") -}}
{{- $image := include "model-service.reference" (list . $training.image) -}}
{{- $own := dict "env" (include "model-service.training.environment" .) "image" $image "pullPolicy" $training.image.pullPolicy -}}
{{- $own = merge $own (dict "resources" $training.resources) -}}
{{- $mounts := append $handover (dict "name" "settings" "mountPath" "/etc/model-service/training" "readOnly" true) -}}
{{- $checkpoints := list -}}
{{- if $training.checkpoints.existingClaim }}{{ $checkpoints = list (dict "name" "checkpoints" "mountPath" "/checkpoints") }}{{ end -}}
{{- $only := list "/bin/sh" "-c" "[ \"$JOB_COMPLETION_INDEX\" = 0 ] || exit 0; exec \"$@\"" "--" -}}
{{- $only = ternary $only (list) (gt (int $training.workers) 1) -}}
{{- $verify := list "/opt/venv/bin/python" "-m" "app.verify" "--candidate=/handover/candidate.json" "--result=/handover/verified.json" -}}
{{- $verify = append $verify (printf "--max-p99-ms=%v" $training.verify.maxP99Milliseconds) -}}
{{- $promote := list "/opt/venv/bin/python" "-m" "training" "promote" "--candidate=/handover/candidate.json" -}}
{{- $promote = concat $promote (list "--verification=/handover/verified.json" "--result=/handover/promoted.json") -}}
{{- include "model-service.job.pod" (list . $training) }}
{{- if gt (int $training.workers) 1 }}
subdomain: {{ include "model-service.job.name" (list . "train") | quote }}
{{- end }}
initContainers:
  - command: [/opt/venv/bin/python, -m, training, train, --result=/handover/candidate.json]
    {{- include "model-service.job.container" (list . $training (merge (dict "name" "train" "mounts" (concat $mounts $checkpoints)) $own)) | nindent 4 }}
  - command: {{ concat $only $verify | toJson }}
    workingDir: /app
    {{- $service := dict "name" "verify" "image" (include "model-service.image" .) "pullPolicy" .Values.image.pullPolicy }}
    {{- $service = merge $service (dict "mounts" $handover "resources" .Values.resources) $own }}
    {{- include "model-service.job.container" (list . $training $service) | nindent 4 }}
containers:
  - command: {{ concat $only $promote | toJson }}
    {{- include "model-service.job.container" (list . $training (merge (dict "name" "promote" "mounts" $mounts) $own)) | nindent 4 }}
volumes:
  {{- include "model-service.job.volumes" . | nindent 2 }}
  - {name: handover, emptyDir: {}}
  - name: settings
    configMap:
      name: {{ include "model-service.job.name" (list . "train") | quote }}
  {{- with $training.checkpoints.existingClaim }}
  - name: checkpoints
    persistentVolumeClaim:
      claimName: {{ . | quote }}
  {{- end }}
  {{- with $training.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
model-service.training.environment
in: root context   out: YAML list
*/}}
{{- define "model-service.training.environment" -}}
{{- include "model-service.job.environment" (list . .Values.training) }}
- name: TRAINING_CONFIG
  value: /etc/model-service/training/settings.yaml
- name: IMAGE_DIGEST
  value: {{ include "model-service.reference" (list . .Values.training.image) | quote }}
{{- if and (gt (int .Values.training.workers) 1) (not .Values.training.trainJob.enabled) }}
- name: DMLC_NUM_WORKER
  value: {{ .Values.training.workers | quote }}
- name: DMLC_TASK_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
- name: DMLC_TRACKER_URI
  value: $(JOB_NAME)-0.{{ include "model-service.job.name" (list . "train") }}
- name: DMLC_TRACKER_PORT
  value: "29500"
{{- end }}
{{- end -}}

{{/*
model-service.training.settings: the file that `python -m training` reads. What the release says already is not said again.
in: root context   out: YAML map
*/}}
{{- define "model-service.training.settings" -}}
{{- $uri := .Values.model.uri -}}
{{- $alias := regexMatch "@" $uri | ternary (regexReplaceAll "^[^@]*@" $uri "") "champion" -}}
{{- $name := regexReplaceAll "^models:/([^/@]*).*$" $uri "${1}" -}}
{{- $known := dict "promote" (dict "alias" $alias) -}}
{{- if hasPrefix "models:/" $uri }}{{ $_ := set $known "model_name" $name }}{{ end -}}
{{- if .Values.training.checkpoints.existingClaim }}{{ $_ := set $known "train" (dict "checkpoints" "/checkpoints") }}{{ end -}}
{{- merge (deepCopy .Values.training.settings) $known | toYaml -}}
{{- end -}}
