package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	_ "k8s.io/kubernetes/pkg/apis/storagemigration/install"
)

// internals are the Go types without a version that upstream's validation works on and that its
// messages show, each beside the type of a version that it was converted from.
type internals struct {
	lines map[string][]string // by name of a struct
}

// internalFacts is the table of those types.
func internalFacts(versions []string) []string {
	lines := []string{
		"# The types that upstream's messages show values as. Written by generate/, do not edit.",
		"# kind GROUP/VERSION:KIND TYPE",
		"# type TYPE, then a line a field, in order: SHOWN-NAME JSON-NAME GO-TYPE, then e for what is not shown when empty",
		"#   JSON-NAME is a path, . where its fields are those of the same object, - where there is none",
	}
	found := internals{map[string][]string{}}
	for _, version := range versions {
		group, _ := schema.ParseGroupVersion(version)
		var kinds []string
		for kind := range legacyscheme.Scheme.KnownTypes(group) {
			kinds = append(kinds, kind)
		}
		sort.Strings(kinds)
		for _, kind := range kinds {
			hub := schema.GroupVersionKind{Group: group.Group, Version: runtime.APIVersionInternal, Kind: kind}
			internal, ok := legacyscheme.Scheme.AllKnownTypes()[hub]
			if !ok || strings.HasSuffix(kind, "List") || strings.HasSuffix(kind, "Options") || kind == "WatchEvent" {
				continue
			}
			lines = append(lines, fmt.Sprintf("kind %s:%s %s", version, kind, shownType(internal)))
			found.visit(internal, legacyscheme.Scheme.KnownTypes(group)[kind])
		}
	}
	var names []string
	for name := range found.lines {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		lines = append(append(lines, "type "+name), found.lines[name]...)
	}
	return lines
}

// visit records an internal type; versioned is what it is in a version.
func (all *internals) visit(internal, versioned reflect.Type) {
	for internal.Kind() == reflect.Pointer || internal.Kind() == reflect.Slice || internal.Kind() == reflect.Map {
		internal = internal.Elem()
		if versioned != nil && (versioned.Kind() == reflect.Pointer || versioned.Kind() == reflect.Slice || versioned.Kind() == reflect.Map) {
			versioned = versioned.Elem()
		}
	}
	if internal.Kind() != reflect.Struct || opaque[name(internal)] || all.lines[name(internal)] != nil {
		return
	}
	all.lines[name(internal)] = []string{}
	all.lines[name(internal)] = all.fields(internal, versioned)
}

func (all *internals) fields(internal, versioned reflect.Type) []string {
	lines := []string{}
	for i := range internal.NumField() {
		field := internal.Field(i)
		tag := readTag(field)
		if tag.json == "-" || !field.IsExported() || field.Name == "TypeMeta" {
			continue
		}
		shown := tag.json
		if shown == "" {
			shown = field.Name
		}
		json, other := counterpart(field.Name, versioned)
		if field.Anonymous && readTag(field).json == "" {
			// Its fields are shown as fields of this, which messages may also show alone.
			within := ""
			if other == nil {
				other = versioned
			} else if json != "." {
				within = json + "."
			}
			all.visit(field.Type, other)
			for _, line := range all.fields(field.Type, other) {
				shown, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				lines = append(lines, "  "+shown+" "+within+rest)
			}
			continue
		}
		all.visit(field.Type, other)
		line := "  " + shown + " " + json + " " + shownType(field.Type)
		if tag.omitZero || tag.omitEmpty && field.Type.Kind() != reflect.Struct {
			line += " e"
		}
		lines = append(lines, line)
	}
	return lines
}

// counterpart is the JSON name and type of the field of a version that has the same Go name.
func counterpart(goName string, versioned reflect.Type) (string, reflect.Type) {
	if versioned == nil || versioned.Kind() != reflect.Struct {
		return "-", nil
	}
	for i := range versioned.NumField() {
		field := versioned.Field(i)
		tag := readTag(field)
		if strings.EqualFold(field.Name, goName) {
			if tag.inline {
				return ".", field.Type
			}
			return tag.json, field.Type
		}
	}
	for i := range versioned.NumField() {
		field := versioned.Field(i)
		if readTag(field).inline {
			if json, found := counterpart(goName, field.Type); json != "-" {
				return json, found
			}
		}
	}
	return "-", nil
}

// shownType is a type by what decides how it is shown: named strings and numbers are plain ones.
func shownType(goType reflect.Type) string {
	switch goType.Kind() {
	case reflect.Pointer:
		return "*" + shownType(goType.Elem())
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return "[]byte"
		}
		return "[]" + shownType(goType.Elem())
	case reflect.Map:
		return "map:" + shownType(goType.Elem())
	case reflect.Struct:
		return name(goType)
	case reflect.Interface:
		return "any"
	default:
		return strings.TrimRight(goType.Kind().String(), "0123456789")
	}
}
