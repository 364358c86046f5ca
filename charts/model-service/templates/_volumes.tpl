{{/*
model-service.emptyDirs: emptyDir volumes, with their limits in `emptyDirSizeLimits`.
in: list of the root context and the names of the volumes   out: YAML list
*/}}
{{- define "model-service.emptyDirs" -}}
{{- $limits := (first .).Values.emptyDirSizeLimits | default dict -}}
{{- $volumes := list -}}
{{- range rest . -}}
{{- $limit := get $limits . -}}
{{- $volumes = append $volumes (dict "name" . "emptyDir" (ternary dict (dict "sizeLimit" $limit) (empty $limit))) -}}
{{- end -}}
{{- toYaml $volumes -}}
{{- end -}}
