module lowtide.dev/tests/cluster/tools/keda

go 1.26.0

// Only its definitions are used: config/crd.
require github.com/kedacore/keda/v2 v2.21.0 // indirect
