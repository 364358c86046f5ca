{{/*
Helpers of training and batch scoring. Most take a map that describes the job:
  root    the root context
  kind    "train" or "score"
  values  what model-service.job.values returns, parsed
*/}}

{{/*
model-service.job.values: values of one kind of job: the defaults in `jobs`, overridden by its own.
in: list of the root context and the key, "training" or "batch"   out: YAML map
*/}}
{{- define "model-service.job.values" -}}
{{- $values := dict -}}
{{- range list "jobs" (last .) -}}
{{- include "model-service.job.override" (list $values (get (first $).Values . | default dict)) -}}
{{- end -}}
{{- toYaml $values -}}
{{- end -}}

{{/*
model-service.job.override: change a map in place. Maps are merged, other values are replaced, and nulls are ignored.
in: list of the map to change and the map of overrides   out: nothing
*/}}
{{- define "model-service.job.override" -}}
{{- $values := first . -}}
{{- range $key, $override := last . -}}
{{- if kindIs "map" $override -}}
{{- $_ := set $values $key (get $values $key | default dict) -}}
{{- include "model-service.job.override" (list (get $values $key) $override) -}}
{{- else if not (kindIs "invalid" $override) -}}
{{- $_ := set $values $key $override -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
model-service.job.podContext: the context of model-service.podSettings for a pod that is not the service's. Its keys replace those
in `pod`.
in: list of the root context and the values of the pod   out: YAML map with Values
*/}}
{{- define "model-service.job.podContext" -}}
{{- $values := (first .).Values -}}
{{- $pod := omit ($values.pod | default dict) "affinity" "initContainers" "terminationGracePeriodSeconds" -}}
{{- range $key, $value := last . | default dict -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $pod $key $value }}{{ end -}}
{{- end -}}
{{- dict "Values" (dict "pod" $pod "global" $values.global) | toYaml -}}
{{- end -}}

{{/*
model-service.job.name: "<fullname>-<kind>", short enough for a CronJob (52 characters). A name that is too long is cut and
ends in a digest of the full name, so that two releases never share a name.
in: list of the root context and the kind
*/}}
{{- define "model-service.job.name" -}}
{{- $full := include "model-service.fullname" (first .) -}}
{{- if gt (len $full) 44 }}{{ $full = printf "%s-%s" (trunc 35 $full | trimSuffix "-") (sha256sum $full | trunc 8) }}{{ end -}}
{{- printf "%s-%s" $full (last .) -}}
{{- end -}}

{{/*
model-service.job.labels: labels that select a job's pods. The name differs from the service's, whose selectors must not
match these pods.
in: list of the root context and the kind   out: YAML map
*/}}
{{- define "model-service.job.labels" -}}
app.kubernetes.io/name: {{ printf "%s-%s" (include "model-service.name" (first .)) (last .) | quote }}
app.kubernetes.io/instance: {{ (first .).Release.Name | quote }}
{{- end -}}

{{/*
model-service.job.manifest: a Job, or a CronJob if there is a schedule.
in: the job, with its pod (YAML text: containers and volumes) and settings (text that the pod reads from a ConfigMap)
*/}}
{{- define "model-service.job.manifest" -}}
{{- $name := include "model-service.job.name" (list .root .kind) -}}
{{- $spec := include "model-service.job.spec" . -}}
apiVersion: batch/v1
{{- if .values.schedule }}
kind: CronJob
metadata:
  {{- include "model-service.metadata" (list .root (dict "name" $name)) | nindent 2 }}
spec:
  schedule: {{ .values.schedule | quote }}
  {{- with .values.timeZone }}
  timeZone: {{ . | quote }}
  {{- end }}
  # Runs never overlap: MLflow's aliases have no compare-and-set.
  concurrencyPolicy: Forbid
  {{- range $key, $value := pick .values "suspend" "startingDeadlineSeconds" "successfulJobsHistoryLimit" "failedJobsHistoryLimit" }}
  {{ $key }}: {{ toJson $value }}
  {{- end }}
  jobTemplate:
    spec:
      {{- $spec | nindent 6 }}
{{- else }}
kind: Job
metadata:
  # A Job is immutable. Its name ends in a digest, so that a changed spec or changed settings create another Job.
  {{- $digest := list $spec .settings (include "model-service.namespace" .root) | toJson | sha256sum | trunc 8 }}
  {{- include "model-service.metadata" (list .root (dict "name" (printf "%s-%s" $name $digest))) | nindent 2 }}
spec:
  {{- $spec | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
model-service.job.spec: spec of a Job, with everything that the pods of all jobs share.
in: as above   out: YAML map
*/}}
{{- define "model-service.job.spec" -}}
{{- $workers := .values.workers | default 1 | int -}}
{{- range $key, $value := pick .values "activeDeadlineSeconds" "ttlSecondsAfterFinished" }}
{{ $key }}: {{ toJson $value }}
{{- end }}
{{- if not (kindIs "invalid" .values.backoffLimit) }}
backoffLimit: {{ mul .values.backoffLimit $workers }}
{{- end }}
{{- if gt $workers 1 }}
completionMode: Indexed
completions: {{ $workers }}
parallelism: {{ $workers }}
{{- end }}
podFailurePolicy:
  rules:
    # An eviction or a node drain does not count as a failure.
    - action: Ignore
      onPodConditions:
        - {type: DisruptionTarget, status: "True"}
    # A retry cannot fix invalid data or settings.
    - action: FailJob
      onExitCodes: {operator: In, values: [2]}
template:
  metadata:
    labels:
      {{- $labels := include "model-service.job.labels" (list .root .kind) | fromYaml }}
      {{- merge $labels ((.values.pod).labels | default dict) ((.root.Values.pod).labels | default dict) (.root.Values.commonLabels | default dict) | toYaml | nindent 6 }}
    {{- $annotations := (.values.pod).annotations | default dict }}
    {{- with .values.rerun }}
    {{- $annotations = merge (dict "model-service/rerun" .) $annotations }}
    {{- end }}
    {{- with $annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ coalesce .values.serviceAccountName (include "model-service.serviceAccountName" .root) | quote }}
    automountServiceAccountToken: false
    enableServiceLinks: false
    {{- $context := include "model-service.job.podContext" (list .root .values.pod) | fromYaml }}
    {{- include "model-service.podSettings" (list $context "affinity" "dnsConfig" "hostAliases" "imagePullSecrets" "nodeSelector" "priorityClassName" "runtimeClassName" "schedulerName" "securityContext" "tolerations") | nindent 4 }}
    {{- .pod | nindent 4 }}
{{- end -}}

{{/*
model-service.job.container: what every container of a job has in addition to its name, command, environment and mounts.
in: list of the job, the image and the resources   out: YAML map
*/}}
{{- define "model-service.job.container" -}}
{{- $job := index . 0 -}}{{- $image := index . 1 -}}
image: {{ include "model-service.image" (list $job.root $image) | quote }}
{{- with $image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- with $job.root.Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $sources := $job.values.extraEnvFrom | default list }}
{{- with $job.root.Values.mlflow.existingSecret }}
{{- $sources = prepend $sources (dict "secretRef" (dict "name" .)) }}
{{- end }}
{{- with $sources }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with last . }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
model-service.job.env: environment variables of all jobs: MLflow's address, the certificate authorities (ssl and requests read
different variables), and the Job's name, with which MLflow tags the run.
in: the job   out: YAML list
*/}}
{{- define "model-service.job.env" -}}
- name: MLFLOW_TRACKING_URI
  value: {{ .root.Values.mlflow.trackingUri | default "" | quote }}
- name: MODEL_SERVICE_MLFLOW_TRACKING_URI
  value: {{ .root.Values.mlflow.trackingUri | default "" | quote }}
- name: JOB_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['batch.kubernetes.io/job-name']
- name: MLFLOW_RUN_CONTEXT
  value: {{ dict "k8s.job" "$(JOB_NAME)" "k8s.namespace" (include "model-service.namespace" .root) | toJson | quote }}
{{- with .root.Values.mlflow.caBundle }}
{{- if .existingConfigMap }}
- name: SSL_CERT_FILE
  value: {{ printf "/etc/model-service/ca/%s" .key | quote }}
- name: REQUESTS_CA_BUNDLE
  value: {{ printf "/etc/model-service/ca/%s" .key | quote }}
{{- end }}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
model-service.job.mounts: volume mounts of all jobs.
in: the job   out: YAML list
*/}}
{{- define "model-service.job.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if (.root.Values.mlflow.caBundle).existingConfigMap }}
- {name: mlflow-ca, mountPath: /etc/model-service/ca, readOnly: true}
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
model-service.job.volumes: volumes of all jobs.
in: the job   out: YAML list
*/}}
{{- define "model-service.job.volumes" -}}
{{- include "model-service.emptyDirs" (list .root "tmp") }}
{{- with (.root.Values.mlflow.caBundle).existingConfigMap }}
- name: mlflow-ca
  configMap:
    name: {{ . | quote }}
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
