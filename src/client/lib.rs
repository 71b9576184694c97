//! The client of the Kubernetes API that every component uses: requests, informers, work queues.
