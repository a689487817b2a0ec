{{- define "lowtide.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "lowtide.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "lowtide.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "lowtide.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Names of cluster-wide objects carry the namespace, so that two releases never share one. */}}
{{- define "lowtide.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "lowtide.fullname" .) }}
{{- end }}

{{- define "lowtide.selector" -}}
app.kubernetes.io/name: {{ include "lowtide.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lowtide.labels" -}}
{{ include "lowtide.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: lowtide
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "lowtide.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "lowtide.account" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "lowtide.fullname" .) }}
{{- else }}
{{- required "serviceAccount.create is false: name the account in serviceAccount.name" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "lowtide.releaseAccount" -}}
{{- printf "%s-release" (include "lowtide.fullname" .) }}
{{- end }}

{{- /* The namespaces that are served, separated by commas; empty for all of them. */}}
{{- define "lowtide.namespaces" -}}
{{- if .Values.clusterWide }}
{{- if .Values.namespaces }}
{{- fail "clusterWide serves every namespace: leave namespaces empty, or set clusterWide to false" }}
{{- end }}
{{- else }}
{{- .Values.namespaces | default (list .Release.Namespace) | sortAlpha | join "," }}
{{- end }}
{{- end }}

{{- define "lowtide.execAccount" -}}
{{- printf "%s-exec" (include "lowtide.fullname" .) }}
{{- end }}

{{- /* The namespaces in whose pods commands may be executed, separated by commas; all of them are served. */}}
{{- define "lowtide.execNamespaces" -}}
{{- $served := splitList "," (include "lowtide.namespaces" .) }}
{{- range .Values.exec.namespaces }}
{{- if not (or $.Values.clusterWide (has . $served)) }}
{{- fail (printf "exec.namespaces has %s, which is not served: add it to namespaces" .) }}
{{- end }}
{{- end }}
{{- .Values.exec.namespaces | sortAlpha | join "," }}
{{- end }}

{{- /* Under which name this installation holds namespaces. */}}
{{- define "lowtide.installation" -}}
{{- printf "%s/%s" .Release.Namespace (include "lowtide.fullname" .) }}
{{- end }}

{{- /* The Lease of the heartbeat: as reconcile/heartbeat.py names it. */}}
{{- define "lowtide.heartbeat" -}}
{{- printf "lowtide-heartbeat-%s" (include "lowtide.installation" . | replace "/" "-") | trunc 63 | trimAll "-." }}
{{- end }}
