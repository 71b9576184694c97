package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// applyStep is one request, what the object was before, and what it is after.
type applyStep struct {
	Op          string `json:"op"`
	Manager     string `json:"manager"`
	Subresource string `json:"subresource,omitempty"`
	Force       bool   `json:"force,omitempty"`
	// Exclude are paths of field names that the resource resets, joined by dots.
	Exclude []string        `json:"exclude,omitempty"`
	Object  json.RawMessage `json:"object"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   string          `json:"error,omitempty"`
	Causes  []string        `json:"causes,omitempty"`
}

type applyCase struct {
	Name string `json:"name"`
	// Schema is the openAPIV3Schema of a custom resource; none for built-in kinds.
	Schema json.RawMessage `json:"schema,omitempty"`
	// Live is what the object is before the first step, none where it is created.
	Live  json.RawMessage `json:"live,omitempty"`
	Steps []applyStep     `json:"steps"`
}

// sameVersion converts nothing: all cases are of one version.
type sameVersion struct{ gvk schema.GroupVersionKind }

func (sameVersion) Convert(in, out, context any) error { return errors.New("not needed") }

func (c sameVersion) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	if _, ok := in.(*unstructured.Unstructured); ok {
		return in, nil
	}
	out := in.DeepCopyObject()
	out.GetObjectKind().SetGroupVersionKind(c.gvk)
	return out, nil
}

func (sameVersion) ConvertFieldLabel(schema.GroupVersionKind, string, string) (string, string, error) {
	return "", "", errors.New("not needed")
}

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

// kindOf makes empty objects of the case's kind.
type kindOf struct{ custom bool }

func (k kindOf) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if k.custom {
		u := &unstructured.Unstructured{Object: map[string]any{}}
		u.SetGroupVersionKind(gvk)
		return u, nil
	}
	return scheme.Scheme.New(gvk)
}

func (k kindOf) parse(gvk schema.GroupVersionKind, text []byte) runtime.Object {
	object, err := k.New(gvk)
	check(err)
	if u, ok := object.(*unstructured.Unstructured); ok {
		check(u.UnmarshalJSON(text))
	} else {
		check(json.Unmarshal(text, object))
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	return object
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// customTypes makes the type converter of a custom resource as the API server does.
func customTypes(gvk schema.GroupVersionKind, openAPI json.RawMessage) managedfields.TypeConverter {
	var props apiextensionsv1.JSONSchemaProps
	check(json.Unmarshal(openAPI, &props))
	plural := strings.ToLower(gvk.Kind) + "s"
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + gvk.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: gvk.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Kind: gvk.Kind, ListKind: gvk.Kind + "List"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: gvk.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &props},
			}},
		},
	}
	document, err := builder.BuildOpenAPIV3(crd, gvk.Version, builder.Options{})
	check(err)
	converter, err := managedfields.NewTypeConverter(document.Components.Schemas, false)
	check(err)
	return converter
}

func clock(step int) metav1.Time {
	return metav1.NewTime(time.Date(2026, 1, 1, 0, 0, step, 0, time.UTC))
}

// run makes the requests of a case one after the other. Times become those of the steps: step 3
// happens at second 3.
func run(c applyCase) applyCase {
	var head struct{ APIVersion, Kind string }
	check(json.Unmarshal(c.Steps[0].Object, &head))
	gvk := schema.FromAPIVersionAndKind(head.APIVersion, head.Kind)
	kind, types := kindOf{custom: c.Schema != nil}, managedfields.TypeConverter(nil)
	if kind.custom {
		types = customTypes(gvk, c.Schema)
	} else {
		types = applyconfigurations.NewTypeConverter(scheme.Scheme)
	}
	var live runtime.Object
	if c.Live != nil {
		live = kind.parse(gvk, c.Live)
	}
	for i := range c.Steps {
		step := &c.Steps[i]
		filters := map[fieldpath.APIVersion]fieldpath.Filter{}
		if len(step.Exclude) > 0 {
			set := fieldpath.NewSet()
			for _, path := range step.Exclude {
				var parts []any
				for _, part := range strings.Split(path, ".") {
					parts = append(parts, part)
				}
				set.Insert(fieldpath.MakePathOrDie(parts...))
			}
			filters[fieldpath.APIVersion(gvk.GroupVersion().String())] = fieldpath.NewExcludeSetFilter(set)
		}
		make := managedfields.NewDefaultFieldManager
		if kind.custom {
			make = managedfields.NewDefaultCRDFieldManager
		}
		manager, err := make(types, sameVersion{gvk}, noDefaults{}, kind, gvk, gvk.GroupVersion(), step.Subresource, filters)
		check(err)
		before := live
		if before == nil {
			before, err = kind.New(gvk)
			check(err)
			before.GetObjectKind().SetGroupVersionKind(gvk)
		}
		var after runtime.Object
		if step.Op == "apply" {
			config := &unstructured.Unstructured{}
			check(json.Unmarshal(step.Object, &config.Object))
			after, err = manager.Apply(before.DeepCopyObject(), config, step.Manager, step.Force)
		} else {
			after, err = manager.Update(before.DeepCopyObject(), kind.parse(gvk, step.Object), step.Manager)
		}
		if err != nil {
			step.Error = err.Error()
			if status, ok := err.(apierrors.APIStatus); ok && status.Status().Details != nil {
				for _, cause := range status.Status().Details.Causes {
					step.Causes = append(step.Causes, cause.Field+" "+cause.Message)
				}
				sort.Strings(step.Causes)
			}
			continue
		}
		accessor, err := meta.Accessor(after)
		check(err)
		fields := accessor.GetManagedFields()
		for j := range fields {
			if fields[j].Time != nil && fields[j].Time.After(clock(3600).Time) {
				now := clock(i)
				fields[j].Time = &now
			}
		}
		accessor.SetManagedFields(fields)
		accessor.SetUID("1")
		text, err := json.Marshal(after)
		check(err)
		live = kind.parse(gvk, text)
		// Times are part of the order, and have only now become what they are.
		live = resort(live)
		step.Result, err = json.Marshal(live)
		check(err)
	}
	return c
}

func resort(object runtime.Object) runtime.Object {
	accessor, err := meta.Accessor(object)
	check(err)
	fields := accessor.GetManagedFields()
	for i := range fields {
		for j := i; j > 0 && entryLess(fields[j], fields[j-1]); j-- {
			fields[j], fields[j-1] = fields[j-1], fields[j]
		}
	}
	accessor.SetManagedFields(fields)
	return object
}

func entryLess(p, q metav1.ManagedFieldsEntry) bool {
	key := func(e metav1.ManagedFieldsEntry) string {
		seconds := int64(0)
		if e.Time != nil {
			seconds = e.Time.Unix()
		}
		return fmt.Sprintf("%s %020d %s\x00%s\x00%s", e.Operation, seconds, e.Manager, e.APIVersion, e.Subresource)
	}
	return key(p) < key(q)
}

func runAll(cases []applyCase) []applyCase {
	var done []applyCase
	for _, c := range cases {
		done = append(done, run(c))
	}
	return done
}
