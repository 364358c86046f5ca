{{/*
model-service.training.volumes: volumes of a training pod. The steps pass files to each other in /handover.
in: the job   out: YAML list
*/}}
{{- define "model-service.training.volumes" -}}
{{- include "model-service.job.volumes" . }}
{{ include "model-service.emptyDirs" (list .root "handover") }}
- name: settings
  configMap:
    name: {{ include "model-service.job.name" (list .root "train") | quote }}
{{- with (.values.checkpoints).existingClaim }}
- name: checkpoints
  persistentVolumeClaim:
    claimName: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
model-service.training.mounts: volume mounts of a container that trains.
in: the job   out: YAML list
*/}}
{{- define "model-service.training.mounts" -}}
{{- include "model-service.job.mounts" . }}
- {name: handover, mountPath: /handover}
- {name: settings, mountPath: /etc/model-service/training, readOnly: true}
{{- if (.values.checkpoints).existingClaim }}
- {name: checkpoints, mountPath: /checkpoints}
{{- end }}
{{- end -}}

{{/*
model-service.training.env: environment variables of a container that trains. MLflow records the image with the run.
in: the job   out: YAML list
*/}}
{{- define "model-service.training.env" -}}
{{- include "model-service.job.env" . }}
- name: TRAINING_CONFIG
  value: /etc/model-service/training/settings.yaml
- name: IMAGE_DIGEST
  value: {{ include "model-service.image" (list .root .values.image) | quote }}
{{- if not .values.schedule }}
- name: TRAINING_KEY
  value: {{ include "model-service.training.key" . | quote }}
{{- end }}
{{- end -}}

{{/*
model-service.training.key: digest of what a training depends on. A Job is immutable, so any change of its pods creates another
one. The new Job trains only if its key is new: `train` finds the version that was registered with the same key. The
promotion is part of the settings, so that changed rules are applied to a new candidate.
in: the job   out: 16 hexadecimal digits
*/}}
{{- define "model-service.training.key" -}}
{{- $settings := include "model-service.training.settings" .root | fromYaml -}}
{{- $train := omit ($settings.train | default dict) "checkpoints" -}}
{{- $key := pick .values "extraEnv" "extraVolumes" "extraVolumeMounts" "workers" "verify" "rerun" -}}
{{- $key = merge $key (dict "settings" (merge (dict "train" $train) (omit $settings "train"))) -}}
{{- $key = merge $key (dict "image" (include "model-service.image" (list .root .values.image))) -}}
{{- $key = merge $key (dict "mlflow" .root.Values.mlflow.trackingUri "release" .root.Release.Name) -}}
{{- merge $key (dict "namespace" (include "model-service.namespace" .root)) | toJson | sha256sum | trunc 16 -}}
{{- end -}}

{{/*
model-service.training.settings: the settings file of `python -m training`. The model's name and alias default to those in
`model.uri`.
in: root context   out: YAML map
*/}}
{{- define "model-service.training.settings" -}}
{{- $uri := .Values.model.uri | default "" -}}
{{- $alias := regexMatch "@" $uri | ternary (regexReplaceAll "^[^@]*@" $uri "") "champion" -}}
{{- $defaults := dict "promote" (dict "alias" $alias) -}}
{{- if regexMatch "^models:/[^/@]+[/@]" $uri }}{{ $_ := set $defaults "model_name" (regexReplaceAll "^models:/([^/@]*).*$" $uri "${1}") }}{{ end -}}
{{- if (.Values.training.checkpoints).existingClaim }}{{ $_ := set $defaults "train" (dict "checkpoints" "/checkpoints") }}{{ end -}}
{{- merge (.Values.training.settings | default dict | deepCopy) $defaults | toYaml -}}
{{- end -}}
