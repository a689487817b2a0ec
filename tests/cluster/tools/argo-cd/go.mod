module lowtide.dev/tests/cluster/tools/argo-cd

go 1.26.0

// Only its definitions are used: manifests/crds.
require github.com/argoproj/argo-cd/v3 v3.4.13 // indirect
