{{/*
mlflow.allowedHosts: Host headers that the server accepts. Setting any replaces MLflow's own list. A name without a port
does not match the same name with one, so each is listed twice: the Service's names, localhost for port-forwards, the
pod's address (IPv4, IPv6) for Prometheus, and the outer hosts.
in: root context   out: comma-separated list in which the kubelet replaces $(POD_IP)
*/}}
{{- define "mlflow.allowedHosts" -}}
{{- $hosts := list "localhost" "localhost:*" "127.0.0.1" "127.0.0.1:*" "[::1]" "[::1]:*" -}}
{{- $name := include "mlflow.fullname" . -}}
{{- $local := printf "%s.%s" $name .Release.Namespace -}}
{{- range list $name $local (printf "%s.svc" $local) (printf "%s.svc.%s" $local .Values.server.clusterDomain) -}}
{{- $hosts = concat $hosts (list . (printf "%s:%v" . $.Values.service.port)) -}}
{{- end -}}
{{- $hosts = concat $hosts (list "$(POD_IP)" "$(POD_IP):5000" "[$(POD_IP)]:5000") -}}
{{- range include "mlflow.outerHosts" . | fromJsonArray -}}
{{- $hosts = concat $hosts (list . (printf "%s:*" .)) -}}
{{- end -}}
{{- concat $hosts (.Values.server.extraAllowedHosts | default list) | join "," -}}
{{- end -}}

{{/*
mlflow.allowedOrigins: origins whose pages may send write requests: those of MLflow's own pages in a browser.
in: root context   out: comma-separated list; "" allows only localhost
*/}}
{{- define "mlflow.allowedOrigins" -}}
{{- $origins := list -}}
{{- range include "mlflow.outerHosts" . | fromJsonArray -}}
{{- $origins = concat $origins (list (printf "https://%s" .) (printf "https://%s:*" .) (printf "http://%s" .) (printf "http://%s:*" .)) -}}
{{- end -}}
{{- concat $origins (.Values.server.corsAllowedOrigins | default list) | join "," -}}
{{- end -}}

{{/*
mlflow.outerHosts: host names of the server outside the cluster.
in: root context   out: JSON list
*/}}
{{- define "mlflow.outerHosts" -}}
{{- $hosts := list -}}
{{- if (.Values.ingress).enabled -}}
{{- range .Values.ingress.hosts -}}{{- $hosts = append $hosts .host -}}{{- end -}}
{{- end -}}
{{- if (.Values.httpRoute).enabled -}}
{{- $hosts = concat $hosts (.Values.httpRoute.hostnames | default list) -}}
{{- end -}}
{{- $hosts | uniq | toJson -}}
{{- end -}}
