"""A real API server with controllers, a kubelet that only plays, and the operator as a process of its own."""
