package main

import (
	"encoding/json"
	"fmt"
	"log"
	"path"
	"reflect"
	"slices"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// table is every Go type that a kind of the chosen group versions is made of.
type table struct {
	definitions map[string]common.OpenAPIDefinition
	kinds       map[reflect.Type][]string // group/version:Kind
	types       map[reflect.Type]bool
	enums       map[reflect.Type][]string
	packages    map[string]string // Go path to OpenAPI prefix
}

// opaque are the types with a JSON form of their own; the schema engine knows each by name.
var opaque = map[string]bool{
	"meta/v1.Time": true, "meta/v1.MicroTime": true, "meta/v1.Duration": true, "meta/v1.FieldsV1": true,
	"resource.Quantity": true, "intstr.IntOrString": true, "runtime.RawExtension": true,
	"apiextensions/v1.JSON": true, "apiextensions/v1.JSONSchemaPropsOrBool": true,
	"apiextensions/v1.JSONSchemaPropsOrArray":       true,
	"apiextensions/v1.JSONSchemaPropsOrStringArray": true,
}

func newTable(scheme *runtime.Scheme, versions []string) *table {
	t := &table{
		definitions: openapi.GetOpenAPIDefinitions(func(p string) spec.Ref {
			return spec.MustCreateRef("#/definitions/" + p)
		}),
		kinds: map[reflect.Type][]string{}, types: map[reflect.Type]bool{},
		enums: map[reflect.Type][]string{}, packages: map[string]string{},
	}
	for gvk, goType := range scheme.AllKnownTypes() {
		if slices.Contains(versions, gvk.GroupVersion().String()) && gvk.Version != runtime.APIVersionInternal {
			kind := fmt.Sprintf("%s:%s", gvk.GroupVersion(), gvk.Kind)
			t.kinds[goType] = append(t.kinds[goType], kind)
			t.visit(goType)
		}
	}
	return t
}

// visit records a type and everything below it.
func (t *table) visit(goType reflect.Type) {
	if goType.PkgPath() != "" {
		if t.types[goType] {
			return
		}
		t.types[goType] = true
	}
	if opaque[name(goType)] {
		t.packages[goType.PkgPath()] = strings.TrimSuffix(modelName(goType), "."+goType.Name())
		return
	}
	switch goType.Kind() {
	case reflect.Pointer, reflect.Slice:
		t.visit(goType.Elem())
	case reflect.Map:
		t.visit(goType.Key())
		t.visit(goType.Elem())
	case reflect.Struct:
		if _, custom := reflect.New(goType).Interface().(json.Marshaler); custom && goType.Name() != "PartialObjectMetadata" {
			log.Fatalf("%s has a JSON form of its own that the engine does not know", name(goType))
		}
		t.packages[goType.PkgPath()] = strings.TrimSuffix(modelName(goType), "."+goType.Name())
		for i := range goType.NumField() {
			field := goType.Field(i)
			if tag := readTag(field); tag.json == "-" || !field.IsExported() {
				continue
			}
			t.visit(field.Type)
		}
	}
}

// tag is what the tags of a Go struct field say.
type tag struct {
	json                string
	inline              bool
	omitEmpty, omitZero bool
	protobuf            string // the field number
	patch               string // strategies:key
}

func readTag(field reflect.StructField) tag {
	parts := strings.Split(field.Tag.Get("json"), ",")
	t := tag{json: parts[0], protobuf: "-"}
	t.inline = slices.Contains(parts, "inline") || field.Anonymous && parts[0] == ""
	t.omitEmpty = slices.Contains(parts, "omitempty")
	t.omitZero = slices.Contains(parts, "omitzero")
	if proto := strings.Split(field.Tag.Get("protobuf"), ","); len(proto) > 1 {
		t.protobuf = proto[1]
	}
	strategy, key := field.Tag.Get("patchStrategy"), field.Tag.Get("patchMergeKey")
	if strategy != "" || key != "" {
		t.patch = strategy + ":" + key
	}
	return t
}

// name is how the table calls a type: the last two parts of its package and its name.
func name(goType reflect.Type) string {
	switch {
	case goType.PkgPath() != "":
		p := goType.PkgPath()
		short := path.Base(p)
		if short[0] == 'v' && short[1] >= '0' && short[1] <= '9' {
			short = path.Base(path.Dir(p)) + "/" + short
		}
		return short + "." + goType.Name()
	case goType.Kind() == reflect.Pointer:
		return "*" + name(goType.Elem())
	case goType.Kind() == reflect.Slice:
		return "[]" + name(goType.Elem())
	case goType.Kind() == reflect.Map:
		return "map[" + name(goType.Key()) + "]" + name(goType.Elem())
	case goType.Kind() == reflect.Interface:
		return "any"
	default:
		return goType.String()
	}
}

func modelName(goType reflect.Type) string {
	if named, ok := reflect.New(goType).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return goType.PkgPath() + "." + goType.Name()
}

func (t *table) sorted() []reflect.Type {
	var all []reflect.Type
	for goType := range t.types {
		all = append(all, goType)
	}
	sort.Slice(all, func(i, j int) bool { return name(all[i]) < name(all[j]) })
	return all
}

func (t *table) definition(goType reflect.Type) (common.OpenAPIDefinition, bool) {
	d, ok := t.definitions[modelName(goType)]
	return d, ok
}

// facts is the table of types, one line a type and one indented line a field.
func (t *table) facts() []string {
	lines := []string{
		"# What the built-in kinds are made of. Written by generate/, do not edit.",
		"# package PATH PREFIX: the OpenAPI prefix of the types of a package",
		"# string TYPE values: a named string, with its values where they are a closed set",
		"# alias TYPE GO-TYPE: another name of a type; message: in protobuf a message with the list as field 1",
		"# opaque TYPE: a type with a JSON form of its own",
		"# type TYPE facts, then a line a field: NAME PROTOBUF-NUMBER GO-TYPE facts",
		"# facts: e omitempty, z omitzero, r required, p=patchStrategy:patchMergeKey, l=listType:keys,",
		"#   m=mapType, d=default, g=group/version:Kind, u=unions, *: of every group version",
		"# + PROTOBUF-NUMBER TYPE: its fields are fields of this type, in protobuf a message of its own",
	}
	var packages []string
	for goPath, prefix := range t.packages {
		short := path.Base(goPath)
		if short[0] == 'v' && short[1] >= '0' && short[1] <= '9' {
			short = path.Base(path.Dir(goPath)) + "/" + short
		}
		packages = append(packages, "package "+short+" "+prefix)
	}
	sort.Strings(packages)
	lines = append(lines, packages...)
	t.findEnums()
	for _, goType := range t.sorted() {
		switch {
		case opaque[name(goType)]:
			lines = append(lines, "opaque "+name(goType))
		case goType.Kind() == reflect.Struct:
			lines = append(lines, t.structFacts(goType)...)
		case goType.Kind() == reflect.String:
			if values := t.enums[goType]; len(values) > 0 {
				lines = append(lines, "string "+name(goType)+" "+strings.Join(values, ","))
			} else {
				lines = append(lines, "string "+name(goType))
			}
		default:
			line := "alias " + name(goType) + " " + underlying(goType)
			if isMessage(goType) {
				line += " message"
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func underlying(goType reflect.Type) string {
	switch goType.Kind() {
	case reflect.Slice:
		return "[]" + name(goType.Elem())
	case reflect.Map:
		return "map[" + name(goType.Key()) + "]" + name(goType.Elem())
	default:
		return goType.Kind().String()
	}
}

func isMessage(goType reflect.Type) bool {
	_, ok := reflect.New(goType).Interface().(interface{ Marshal() ([]byte, error) })
	return ok
}

// findEnums learns the values of named string types from the fields that have such a type.
func (t *table) findEnums() {
	for _, goType := range t.sorted() {
		d, ok := t.definition(goType)
		if goType.Kind() != reflect.Struct || !ok {
			continue
		}
		for i := range goType.NumField() {
			field := goType.Field(i)
			leaf, property := innermost(field.Type, d.Schema.Properties[readTag(field).json])
			if leaf.PkgPath() == "" || len(property.Enum) == 0 {
				continue
			}
			values := enumOf(property)
			if known := t.enums[leaf]; known != nil && !slices.Equal(known, values) {
				log.Fatalf("%s has two sets of values", name(leaf))
			}
			t.enums[leaf] = values
		}
	}
}

// innermost is what lists, maps and pointers of a field's type lead to, with its part of the schema.
func innermost(leaf reflect.Type, property spec.Schema) (reflect.Type, spec.Schema) {
	for leaf.PkgPath() == "" {
		switch leaf.Kind() {
		case reflect.Slice:
			if property.Items != nil {
				property = *property.Items.Schema
			}
		case reflect.Map:
			if property.AdditionalProperties != nil {
				property = *property.AdditionalProperties.Schema
			}
		case reflect.Pointer:
		default:
			return leaf, property
		}
		leaf = leaf.Elem()
	}
	return leaf, property
}

func enumOf(s spec.Schema) []string {
	var values []string
	for _, value := range s.Enum {
		text, _ := json.Marshal(value)
		values = append(values, string(text))
	}
	return values
}

func (t *table) structFacts(goType reflect.Type) []string {
	line := "type " + name(goType)
	kinds := t.kinds[goType]
	sort.Strings(kinds)
	if everywhere := len(kinds) > 10; everywhere {
		line += " g=*:" + goType.Name()
	} else if len(kinds) > 0 {
		line += " g=" + strings.Join(kinds, ",")
	}
	d, known := t.definition(goType)
	if mapType, ok := d.Schema.Extensions.GetString("x-kubernetes-map-type"); ok {
		line += " m=" + mapType
	}
	if unions, ok := d.Schema.Extensions["x-kubernetes-unions"]; ok {
		text, _ := json.Marshal(unions)
		line += " u=" + string(text)
	}
	if !known {
		line += " undocumented"
	}
	lines := []string{line}
	seen := map[string]bool{}
	for i := range goType.NumField() {
		field := goType.Field(i)
		tag := readTag(field)
		if tag.json == "-" || !field.IsExported() {
			continue
		}
		if tag.inline {
			lines = append(lines, fmt.Sprintf(" + %s %s", tag.protobuf, name(field.Type)))
			continue
		}
		if tag.json == "" {
			log.Fatalf("%s.%s has no JSON name", name(goType), field.Name)
		}
		seen[tag.json] = true
		line := fmt.Sprintf(" %s %s %s", tag.json, tag.protobuf, name(field.Type))
		if tag.omitEmpty {
			line += " e"
		}
		if tag.omitZero {
			line += " z"
		}
		if tag.patch != "" {
			line += " p=" + tag.patch
		}
		line += t.fieldFacts(goType, field, tag, d)
		lines = append(lines, line)
	}
	return lines
}

func (t *table) fieldFacts(goType reflect.Type, field reflect.StructField, tag tag, d common.OpenAPIDefinition) (facts string) {
	property, ok := d.Schema.Properties[tag.json]
	if !ok {
		return ""
	}
	if slices.Contains(d.Schema.Required, tag.json) {
		facts += " r"
	}
	if list, ok := property.Extensions.GetString("x-kubernetes-list-type"); ok {
		facts += " l=" + list
		if keys, ok := property.Extensions.GetStringSlice("x-kubernetes-list-map-keys"); ok {
			facts += ":" + strings.Join(keys, ",")
		}
	}
	if mapType, ok := property.Extensions.GetString("x-kubernetes-map-type"); ok {
		facts += " m=" + mapType
	}
	leaf, leafProperty := innermost(field.Type, property)
	if values := enumOf(leafProperty); !slices.Equal(values, t.enums[leaf]) {
		log.Fatalf("%s.%s has other values than its type", name(goType), field.Name)
	}
	if def := d.Schema.Properties[tag.json].Default; def != nil {
		text, _ := json.Marshal(def)
		if implied := impliedDefault(field.Type, tag.omitEmpty); string(text) != implied {
			facts += " d=" + string(text)
		}
	} else if impliedDefault(field.Type, tag.omitEmpty) != "" {
		log.Fatalf("%s.%s lacks the default that its Go type implies", name(goType), field.Name)
	}
	return facts
}

// impliedDefault is the default that OpenAPI gives to a field of a Go type that cannot be absent.
func impliedDefault(goType reflect.Type, omitEmpty bool) string {
	if opaque[name(goType)] {
		return ""
	}
	switch goType.Kind() {
	case reflect.Struct:
		return "{}"
	case reflect.String:
		if !omitEmpty {
			return `""`
		}
	case reflect.Bool:
		if !omitEmpty {
			return "false"
		}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64, reflect.Uint8, reflect.Float32:
		if !omitEmpty {
			return "0"
		}
	}
	return ""
}

// descriptions has one line for each line of facts that is a type or a field, in the same order.
func (t *table) descriptions() []string {
	var lines []string
	escape := strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\t", "\\t")
	for _, goType := range t.sorted() {
		d, _ := t.definition(goType)
		switch {
		case opaque[name(goType)]:
			lines = append(lines, escape.Replace(d.Schema.Description))
		case goType.Kind() == reflect.Struct:
			lines = append(lines, escape.Replace(d.Schema.Description))
			for i := range goType.NumField() {
				field := goType.Field(i)
				if tag := readTag(field); tag.json != "-" && field.IsExported() && !tag.inline {
					lines = append(lines, escape.Replace(d.Schema.Properties[tag.json].Description))
				}
			}
		}
	}
	return lines
}
