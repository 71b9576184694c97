//! Which objects of a collection a list or watch is about: namespace, labels and fields.

use apimachinery::{
    Object, Status,
    selector::{fields, labels},
};

use crate::{
    kinds::core::event,
    registry::{options::ListOptions, resource::Endpoint},
};

/// Fields whose absence means `false`: upstream formats the typed zero value.
const BOOLEANS: [&str; 2] = ["spec.unschedulable", "spec.hostNetwork"];

/// A condition on objects. Decided on the index beside the bytes; only the selectable fields of
/// custom resources are looked for in the objects themselves.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Empty for all namespaces.
    pub namespace: String,
    /// Whether the resource has no namespaces.
    pub cluster_scoped: bool,
    labels: labels::Selector,
    fields: fields::Selector,
    /// Where the collection keeps each field of the selector.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Name,
    Namespace,
    /// Index into `Object::fields`, and whether an empty value means `false`.
    Field(usize, bool),
    /// In the object itself, which must be parsed: the selectable fields of custom resources are
    /// not known when their collection is opened.
    Inside,
}

impl Selection {
    /// Reads the selectors of `options`. `name` is the object that the path itself names, if any.
    ///
    /// # Errors
    /// 400 for a selector that cannot be read, or a field that cannot be selected by.
    pub fn new(
        endpoint: &Endpoint,
        namespace: &str,
        name: &str,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let bad = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
        let labels = labels::Selector::parse(&options.labels).map_err(|error| bad(&error))?;
        let mut fields = fields::Selector::parse(&options.fields).map_err(|error| bad(&error))?;
        let known = endpoint.resource.collection.as_ref().map_or(&[][..], |c| c.fields());
        let mut places = Vec::new();
        fields = fields.try_map(|mut requirement| {
            if let Some(stored) = alias(endpoint, &requirement.field) {
                stored.clone_into(&mut requirement.field);
            }
            let field = requirement.field.as_str();
            places.push(match field {
                "metadata.name" => Place::Name,
                "metadata.namespace" => Place::Namespace,
                field => match known.iter().position(|path| *path == field) {
                    Some(at) => Place::Field(at, BOOLEANS.contains(&field)),
                    None if is_custom_field(endpoint, field) => Place::Inside,
                    None => return Err(unsupported(endpoint, field)),
                },
            });
            Ok::<_, Status>(Some(requirement))
        })?;
        if !name.is_empty() {
            match fields.exact_match("metadata.name") {
                Some(selected) if selected == name => {}
                None if fields.is_everything() => {
                    fields = fields::Selector::exactly("metadata.name", name);
                    places = vec![Place::Name];
                }
                _ => {
                    return Err(Status::bad_request(
                        "fieldSelector metadata.name doesn't match requested name",
                    ));
                }
            }
        }
        let mut namespace = namespace.to_owned();
        if namespace.is_empty()
            && endpoint.resource.namespaced
            && let Some(selected) = fields.exact_match("metadata.namespace")
        {
            selected.clone_into(&mut namespace);
        }
        let cluster_scoped = !endpoint.resource.namespaced;
        Ok(Self { namespace, cluster_scoped, labels, fields, places })
    }

    /// Whether every object of the namespace is meant.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The only name that can be meant, if there is one.
    pub fn name(&self) -> Option<&str> {
        self.fields.exact_match("metadata.name")
    }

    /// Whether it depends on what is in an object. Then objects must be seen in the version that is
    /// asked for.
    pub fn looks_inside(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Inside))
    }

    /// The selection by namespace alone.
    pub fn by_namespace(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            cluster_scoped: self.cluster_scoped,
            ..Self::default()
        }
    }

    /// Whether `object` is meant.
    pub fn matches(&self, object: &Object) -> bool {
        if !self.namespace.is_empty() && *object.key.namespace != *self.namespace {
            return false;
        }
        let requirements = self.fields.requirements().iter().zip(&self.places);
        for (requirement, place) in requirements {
            let inside;
            let value = match place {
                Place::Inside => {
                    let parsed = object.value().unwrap_or_default();
                    let path = [requirement.field.as_str()];
                    inside = apimachinery::object::select_fields(&parsed, &path);
                    &*inside[0]
                }
                Place::Name => &*object.key.name,
                Place::Namespace => &*object.key.namespace,
                Place::Field(at, boolean) => match object.fields.get(*at).map_or("", |f| f) {
                    "" if *boolean => "false",
                    value => value,
                },
            };
            if (value == requirement.value) != requirement.equals {
                return false;
            }
        }
        self.labels.is_everything() || self.labels.matches(object)
    }
}

/// The stored name of a field that a version calls otherwise.
fn alias(endpoint: &Endpoint, field: &str) -> Option<&'static str> {
    let gvk = &endpoint.version().gvk;
    Some(match (&*gvk.group, &*gvk.kind, field) {
        ("", "Pod", "spec.host") => "spec.nodeName",
        ("batch", "Job", "status.successful") => "status.succeeded",
        ("", "Event", "source" | "reportingComponent") => event::SOURCE,
        ("events.k8s.io", "Event", "regarding.kind") => "involvedObject.kind",
        ("events.k8s.io", "Event", "regarding.namespace") => "involvedObject.namespace",
        ("events.k8s.io", "Event", "regarding.name") => "involvedObject.name",
        ("events.k8s.io", "Event", "regarding.uid") => "involvedObject.uid",
        ("events.k8s.io", "Event", "regarding.apiVersion") => "involvedObject.apiVersion",
        ("events.k8s.io", "Event", "regarding.resourceVersion") => "involvedObject.resourceVersion",
        ("events.k8s.io", "Event", "regarding.fieldPath") => "involvedObject.fieldPath",
        ("events.k8s.io", "Event", "reportingController") => event::SOURCE,
        _ => return None,
    })
}

fn is_custom_field(endpoint: &Endpoint, field: &str) -> bool {
    endpoint.resource.definition.as_ref().is_some_and(|definition| {
        let version = definition.version(&endpoint.version().gvk.version);
        version.is_some_and(|version| version.selectable.iter().any(|known| **known == *field))
    })
}

/// 400 of a field that the resource cannot be selected by, in the words of the conversion function
/// that upstream has for the kind.
fn unsupported(endpoint: &Endpoint, field: &str) -> Status {
    let resource = &endpoint.resource;
    Status::bad_request(match &*endpoint.version().gvk.kind {
        "Job" if !resource.is_custom() => format!("field label {field:?} not supported for Job"),
        "ResourceSlice" if !resource.is_custom() => {
            format!("field label not supported for {}: {field}", endpoint.version().gvk)
        }
        _ if resource.is_custom() => format!("field label not supported: {field}"),
        _ if resource.hooks.fields().is_empty() => format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ),
        _ => format!("field label not supported: {field}"),
    })
}
