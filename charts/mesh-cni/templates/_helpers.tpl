{{- define "cni.labels" -}}
k8s-app: linkerd-cni
linkerd.io/cni-resource: "true"
{{- end -}}

{{- define "cni.version" -}}
{{ .Values.cniPluginVersion | default .Chart.AppVersion }}
{{- end -}}

{{- define "cni.image" -}}
{{- if and .root.Values.imageRegistry (not (contains "/" (.image.name | default ""))) -}}
{{ trimSuffix "/" .root.Values.imageRegistry }}/
{{- end -}}
{{ .image.name }}:{{ .image.version | default (include "cni.version" .root) }}
{{- end -}}

{{- define "cni.config" -}}
{
  "type": "linkerd-cni",
  "name": "linkerd-cni",
  "log_level": {{ .Values.logLevel | quote }},
  "kubernetes": {
    "exclude-namespaces": [
      {{- range .Values.excludeNamespaces }}
      {{ . | quote }},
      {{- end }}
      {{ .Release.Namespace | quote }}
    ]
  },
  "linkerd": {
    "incoming-proxy-port": {{ int .Values.inboundProxyPort }},
    "outgoing-proxy-port": {{ int .Values.outboundProxyPort }},
    "proxy-uid": {{ int .Values.proxyUID }},
    "proxy-gid": {{ int .Values.proxyGID }},
    "ports-to-redirect": [{{ .Values.portsToRedirect | quote }}],
    "inbound-ports-to-ignore": ["{{ int .Values.proxyControlPort }}", "{{ int .Values.proxyAdminPort }}", {{ .Values.ignoreInboundPorts | quote }}],
    "outbound-ports-to-ignore": [{{ .Values.ignoreOutboundPorts | quote }}],
    "subnets-to-ignore": [{{ .Values.skipSubnets | quote }}],
    "simulate": false,
    "ipv6": {{ not .Values.disableIPv6 }}
  }
}
{{- end -}}
