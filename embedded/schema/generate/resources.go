package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// resources is the table of what is served: one line a resource, one indented line a subresource.
func resources(api string, versions []string) []string {
	lines := []string{
		"# What a default API server serves. Written by generate/, do not edit.",
		"# GROUP/VERSION PLURAL SINGULAR KIND n(amespaced)|c(luster) VERBS facts; indented: NAME KIND VERBS",
		"# facts: s=short names, c=categories, h=storage version hash, d: a deletion replies with the object",
	}
	for _, version := range versions {
		file := "apis__" + strings.ReplaceAll(version, "/", "__") + ".json"
		if version == "v1" {
			file = "api__v1.json"
		}
		var list meta.APIResourceList
		read(filepath.Join(api, "discovery", file), &list)
		var document openAPI
		read(filepath.Join(api, "openapi-spec", "v3", strings.TrimSuffix(file, ".json")+"_openapi.json"), &document)
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue
			}
			lines = append(lines, line(version, r)+document.deletion(version, r))
			for _, sub := range list.APIResources {
				if name, found := strings.CutPrefix(sub.Name, r.Name+"/"); found {
					lines = append(lines, fmt.Sprintf(" %s %s %s", name, kind(version, sub), strings.Join(sub.Verbs, ",")))
				}
			}
		}
	}
	return lines
}

func read(file string, into any) {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		log.Fatal(err)
	}
}

// openAPI is the part of an OpenAPI document that says what a deletion replies.
type openAPI struct {
	Paths map[string]struct {
		Delete struct {
			Responses map[string]struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					} `json:"schema"`
				} `json:"content"`
			} `json:"responses"`
		} `json:"delete"`
	} `json:"paths"`
}

func (o openAPI) deletion(version string, r meta.APIResource) string {
	root := "/apis/" + version
	if version == "v1" {
		root = "/api/v1"
	}
	if r.Namespaced {
		root += "/namespaces/{namespace}"
	}
	reply := o.Paths[root+"/"+r.Name+"/{name}"].Delete.Responses["200"].Content["application/json"].Schema.Ref
	if strings.HasSuffix(reply, "."+r.Kind) {
		return " d"
	}
	return ""
}

func line(version string, r meta.APIResource) string {
	scope := "c"
	if r.Namespaced {
		scope = "n"
	}
	line := fmt.Sprintf("%s %s %s %s %s %s", version, r.Name, r.SingularName, kind(version, r), scope, strings.Join(r.Verbs, ","))
	for name, list := range map[string][]string{"s": r.ShortNames} {
		if len(list) > 0 {
			line += " " + name + "=" + strings.Join(list, ",")
		}
	}
	if len(r.Categories) > 0 {
		line += " c=" + strings.Join(r.Categories, ",")
	}
	if r.StorageVersionHash != "" {
		line += " h=" + r.StorageVersionHash
	}
	return line
}

// kind is the kind of a resource, with its group version where that is not the resource's own.
func kind(version string, r meta.APIResource) string {
	if r.Version == "" {
		return r.Kind
	}
	own := r.Version
	if r.Group != "" {
		own = r.Group + "/" + r.Version
	}
	if own == version {
		return r.Kind
	}
	return own + ":" + r.Kind
}
