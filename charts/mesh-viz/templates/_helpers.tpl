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

{{- define "viz.image" -}}
{{- if and .root.Values.imageRegistry (not (contains "/" (.image.name | default ""))) -}}
{{ trimSuffix "/" .root.Values.imageRegistry }}/
{{- end -}}
{{ .image.name }}:{{ .image.version | default (include "viz.version" .root) }}
{{- end -}}
