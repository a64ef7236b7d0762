"""A server for clients without torch: one volume and a job in, progress and result files out (docs/serve.md)."""
