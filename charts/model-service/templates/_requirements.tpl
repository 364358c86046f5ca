{{/*
model-service.requirements: fail if the cluster does not know a kind that a value needs. Helm's own error names the kind only. Without a
cluster, as in `helm template`, Helm knows no kinds and nothing fails.
in: root context   out: nothing
*/}}
{{- define "model-service.requirements" -}}
{{- $monitor := (.Values.monitoring).serviceMonitor | default dict -}}
{{- $scraper := ternary "PodMonitor" "ServiceMonitor" (not (empty $monitor.usePodMonitor)) -}}
{{- $operator := "the Prometheus Operator (charts/observability contains it)" -}}
{{- $needs := list
  (list $monitor.enabled "monitoring.serviceMonitor.enabled" (printf "monitoring.coreos.com/v1/%s" $scraper) $operator)
  (list ((.Values.monitoring).prometheusRule).enabled "monitoring.prometheusRule.enabled" "monitoring.coreos.com/v1/PrometheusRule" $operator)
  (list (.Values.httpRoute).enabled "httpRoute.enabled" "gateway.networking.k8s.io/v1/HTTPRoute" "the Gateway API")
  (list (and (.Values.autoscaling).enabled ((.Values.autoscaling).keda).enabled) "autoscaling.keda.enabled" "keda.sh/v1alpha1/ScaledObject" "KEDA")
  (list (and (.Values.training).enabled ((.Values.training).trainJob).enabled) "training.trainJob.enabled" "trainer.kubeflow.org/v1alpha1/TrainJob" "Kubeflow Trainer")
-}}
{{- if .Capabilities.APIVersions.Has "apps/v1/Deployment" -}}
{{- range $needs -}}
{{- if and (first .) (not ($.Capabilities.APIVersions.Has (index . 2))) -}}
{{- fail (printf "%s=true needs the kind %s, which this cluster does not know: install %s first, or set %s=false." (index . 1) (base (index . 2)) (last .) (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
