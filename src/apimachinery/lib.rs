//! What every part of Kubernetes agrees on: objects as bytes, schemas, patches, selectors, errors.
