{{- define "viz.labels" -}}
linkerd.io/extension: viz
component: {{ . }}
{{- end -}}

{{- define "viz.trust-domain" -}}
{{ .Values.identityTrustDomain | default .Values.clusterDomain }}
{{- end -}}

{{- define "viz.version" -}}
{{ .Values.linkerdVersion | default .Chart.AppVersion }}
{{- end -}}
