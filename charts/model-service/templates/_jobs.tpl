{{/*
model-service.job.name: base name of what belongs to a kind of job, short enough for a CronJob (52). A shortened name ends
in a digest of the whole, so that two releases never share one.
in: list of the root context and the kind, "train" or "score"   out: "<fullname>-<kind>"
*/}}
{{- define "model-service.job.name" -}}
{{- $full := include "model-service.fullname" (first .) -}}
{{- if gt (len $full) 44 }}{{ $full = printf "%s-%s" (trunc 35 $full | trimSuffix "-") (sha256sum $full | trunc 8) }}{{ end -}}
{{- printf "%s-%s" $full (last .) -}}
{{- end -}}

{{/*
model-service.job.labels: of the pods. Another name than the service's pods have: no selector may count them among those.
in: list of the root context and the kind   out: YAML map
*/}}
{{- define "model-service.job.labels" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ printf "%s-%s" (include "model-service.name" $root) (last .) | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
{{- end -}}

{{/*
model-service.job.spec: of a Job. Exit codes 2 (wrong data or settings) and 3 (the gate refused) would come again, so they
end it at once; a pod that a node had to give up does not count.
in: list of the root context, the kind, its values and the pod's spec   out: YAML map
*/}}
{{- define "model-service.job.spec" -}}
{{- $root := index . 0 -}}{{- $values := index . 2 -}}{{- $workers := $values.workers | default 1 | int -}}
backoffLimit: {{ mul $values.backoffLimit $workers }}
activeDeadlineSeconds: {{ $values.activeDeadlineSeconds }}
{{- with $values.ttlSecondsAfterFinished }}
ttlSecondsAfterFinished: {{ . }}
{{- end }}
{{- if gt $workers 1 }}
completionMode: Indexed
completions: {{ $workers }}
parallelism: {{ $workers }}
{{- end }}
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - {type: DisruptionTarget, status: "True"}
    - action: FailJob
      onExitCodes: {operator: In, values: [2, 3]}
template:
  metadata:
    labels:
      {{- merge (include "model-service.job.labels" (list $root (index . 1)) | fromYaml) $root.Values.podLabels $root.Values.commonLabels | toYaml | nindent 6 }}
    {{- with $values.rerun }}
    annotations:
      model-service/rerun: {{ . | quote }}
    {{- end }}
  spec:
    {{- index . 3 | nindent 4 }}
{{- end -}}

{{/*
model-service.job.pod: what every pod of a job has besides its containers and volumes.
in: list of the root context and the kind's values   out: YAML map
*/}}
{{- define "model-service.job.pod" -}}
{{- $root := first . -}}{{- $values := last . -}}
restartPolicy: Never
serviceAccountName: {{ coalesce $values.serviceAccountName (include "model-service.serviceAccountName" $root) | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- $settings := pick $root.Values "priorityClassName" "runtimeClassName" "nodeSelector" "tolerations" "imagePullSecrets" }}
{{- $settings = merge $settings (pick $root.Values "hostAliases" "dnsConfig") }}
{{- range $key, $value := set $settings "securityContext" $root.Values.podSecurityContext }}
{{- with $value }}
{{ dict $key . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
model-service.job.schedule: of a CronJob. Never two at once: MLflow's aliases have no compare-and-set, and two that write
one folder waste each other's work.
in: the kind's values   out: YAML map
*/}}
{{- define "model-service.job.schedule" -}}
schedule: {{ .schedule | quote }}
{{- with .timeZone }}
timeZone: {{ . | quote }}
{{- end }}
suspend: {{ .suspend }}
concurrencyPolicy: Forbid
startingDeadlineSeconds: {{ .startingDeadlineSeconds }}
successfulJobsHistoryLimit: {{ .successfulJobsHistoryLimit }}
failedJobsHistoryLimit: {{ .failedJobsHistoryLimit }}
{{- end -}}
