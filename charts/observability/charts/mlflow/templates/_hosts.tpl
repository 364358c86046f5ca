{{/*
mlflow.allowedHosts: Host headers the server answers. Setting any replaces MLflow's own list, and a name without a port
does not match the same name with one; so each way in is listed twice: the Service's names, localhost for port-forwards,
the pod's address (IPv4, IPv6) for Prometheus, and the outer hosts.
in: root context   out: comma-separated list; $(POD_IP) is filled in by the kubelet
*/}}
{{- define "mlflow.allowedHosts" -}}
{{- $hosts := list "localhost" "localhost:*" "127.0.0.1" "127.0.0.1:*" -}}
{{- $name := include "mlflow.fullname" . -}}
{{- $local := printf "%s.%s" $name .Release.Namespace -}}
{{- range list $name $local (printf "%s.svc" $local) (printf "%s.svc.%s" $local .Values.server.clusterDomain) -}}
{{- $hosts = concat $hosts (list . (printf "%s:%v" . $.Values.service.port)) -}}
{{- end -}}
{{- $hosts = concat $hosts (list "$(POD_IP)" "$(POD_IP):5000" "[$(POD_IP)]:5000") -}}
{{- range include "mlflow.outerHosts" . | fromJsonArray -}}
{{- $hosts = concat $hosts (list . (printf "%s:*" .)) -}}
{{- end -}}
{{- concat $hosts .Values.server.extraAllowedHosts | join "," -}}
{{- end -}}

{{/*
mlflow.allowedOrigins: where pages may come from that change something: MLflow's own, as the browser sees them.
in: root context   out: comma-separated list; "" leaves localhost alone
*/}}
{{- define "mlflow.allowedOrigins" -}}
{{- $origins := list -}}
{{- range include "mlflow.outerHosts" . | fromJsonArray -}}
{{- $origins = concat $origins (list (printf "https://%s" .) (printf "https://%s:*" .) (printf "http://%s" .) (printf "http://%s:*" .)) -}}
{{- end -}}
{{- concat $origins .Values.server.corsAllowedOrigins | join "," -}}
{{- end -}}

{{/*
mlflow.outerHosts: host names by which the server is known outside the cluster.
in: root context   out: JSON list
*/}}
{{- define "mlflow.outerHosts" -}}
{{- $hosts := list -}}
{{- if .Values.ingress.enabled -}}
{{- range .Values.ingress.hosts -}}{{- $hosts = append $hosts .host -}}{{- end -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- $hosts = concat $hosts .Values.httpRoute.hostnames -}}
{{- end -}}
{{- $hosts | uniq | toJson -}}
{{- end -}}
