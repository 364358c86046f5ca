{{/*
model-service.validate.jobs: what cannot work in `training` and `batch`, as in validate.yaml. Renders nothing.
in: root context
*/}}
{{- define "model-service.validate.jobs" -}}
{{- with .Values.training }}
{{- if .enabled }}
{{- $tracking := $.Values.mlflow.trackingUri }}
{{- if not $tracking }}
{{- fail "training.enabled=true logs to MLflow and registers there, but mlflow.trackingUri is empty: set mlflow.trackingUri." }}
{{- end }}
{{- if and (not (hasPrefix "models:/" $.Values.model.uri)) (not .settings.model_name) }}
{{- fail (printf "training.enabled=true does not know which model to register: model.uri=%s names none, so set training.settings.model_name." $.Values.model.uri) }}
{{- end }}
{{- if and .trainJob.enabled .schedule }}
{{- fail (printf "training.schedule=%s cannot start a TrainJob: set training.trainJob.enabled=false, or training.schedule=\"\"." .schedule) }}
{{- end }}
{{- if and .trainJob.enabled .existingSecrets }}
{{- fail "training.existingSecrets cannot be given to a TrainJob whole: name each key with valueFrom in training.extraEnv." }}
{{- end }}
{{- range .extraEnv }}
{{- if regexMatch "^(DMLC_.*|JOB_NAME|JOB_COMPLETION_INDEX|IMAGE_DIGEST|TRAINING_CONFIG|MLFLOW_TRACKING_URI|MLFLOW_RUN_CONTEXT|MODEL_SERVICE_.*)$" (toString .name) }}
{{- fail (printf "training.extraEnv sets %s, which the chart sets itself: use training.settings or the chart's own value for it." .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.batch }}
{{- if .enabled }}
{{- range $key, $what := dict "data" "the data set to score" "output" "the folder for the predictions" }}
{{- if not (get $.Values.batch $key) }}
{{- fail (printf "batch.enabled=true, but batch.%s is empty: set it to %s, a path or s3://…." $key $what) }}
{{- end }}
{{- end }}
{{- $model := coalesce .model $.Values.model.uri }}
{{- if and (hasPrefix "models:/" $model) (not $.Values.mlflow.trackingUri) }}
{{- fail (printf "batch.model=%s is looked up in MLflow, but mlflow.trackingUri is empty: set mlflow.trackingUri." $model) }}
{{- end }}
{{- range .extraEnv }}
{{- if regexMatch "^(TRAINING_(MODEL_URI|MODEL_SHA256|DATA|OUTPUT|KEEP|ON_ERROR|PART_ROWS)|JOB_NAME|MLFLOW_TRACKING_URI|MLFLOW_RUN_CONTEXT|MODEL_SERVICE_.*)$" (toString .name) }}
{{- fail (printf "batch.extraEnv sets %s, which the chart sets itself: use the chart's own value for it." .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $settings := pick .Values "training" "batch" }}
{{- if $settings.enabled }}
{{- if and (not $settings.schedule) $settings.ttlSecondsAfterFinished }}
{{- fail (printf "%s.ttlSecondsAfterFinished=%v would remove a Job that the next upgrade or GitOps sync then runs again: set it to null, or set %s.schedule." $key $settings.ttlSecondsAfterFinished $key) }}
{{- end }}
{{- if and $settings.schedule (not (regexMatch "^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|[^ ]+( +[^ ]+){4})$" $settings.schedule)) }}
{{- fail (printf "%s.schedule=%q is no cron expression: write five fields, minute, hour, day, month and weekday, e.g. \"0 3 * * *\"." $key $settings.schedule) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
