module example.com/condvar/bench

go 1.26.0

replace example.com/condvar => ../

require example.com/condvar v0.0.0

require (
	github.com/cockroachdb/crlib v0.0.0-20260823170307-44ef894cf300
	github.com/creachadair/msync v0.10.1
	github.com/jackc/puddle/v2 v2.2.3
	github.com/stretchr/testify v1.12.1
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
