module lowtide.dev/tests/cluster/tools/source-controller

go 1.26.0

// Only its definitions are used: config/crd.
require github.com/fluxcd/source-controller v1.9.6 // indirect
