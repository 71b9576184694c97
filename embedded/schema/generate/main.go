// Command generate writes the table of what Kubernetes' built-in kinds are: embedded/schema/*.txt.
//
// It reads four sources of one release, as ordinary Go modules: the struct tags of the API types
// (JSON and protobuf names, patch strategies), the types that validation works on (internal.go), the OpenAPI definitions compiled into the API server
// (defaults, enums, list and map types, descriptions), and the discovery documents kept beside its
// source (resources, verbs, short names).
//
//	cd embedded/schema/generate && go run .
//
// What it writes is compared with upstream by ../compare (objects, with the answers of ./oracle and of
// `cargo run -p apimachinery --example schema`) and ../compare-openapi (documents of an API server).
package main

import (
	"bytes"
	"compress/flate"
	"flag"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	admission "k8s.io/api/admission/v1"
	discovery "k8s.io/api/apidiscovery/v2"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubernetes "k8s.io/client-go/kubernetes/scheme"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// served are the group versions that a default API server serves, in the order of its discovery.
var served = []string{
	"v1",
	"apiregistration.k8s.io/v1",
	"apps/v1",
	"events.k8s.io/v1",
	"authentication.k8s.io/v1",
	"authorization.k8s.io/v1",
	"autoscaling/v2",
	"autoscaling/v1",
	"batch/v1",
	"certificates.k8s.io/v1",
	"networking.k8s.io/v1",
	"policy/v1",
	"rbac.authorization.k8s.io/v1",
	"storage.k8s.io/v1",
	"admissionregistration.k8s.io/v1",
	"apiextensions.k8s.io/v1",
	"scheduling.k8s.io/v1",
	"coordination.k8s.io/v1",
	"node.k8s.io/v1",
	"discovery.k8s.io/v1",
	"flowcontrol.apiserver.k8s.io/v1",
	"resource.k8s.io/v1",
	"storagemigration.k8s.io/v1",
}

// spoken are group versions of which no resource is served, but whose kinds go over the wire.
var spoken = []string{"meta.k8s.io/v1", "apidiscovery.k8s.io/v2", "admission.k8s.io/v1"}

func main() {
	out := flag.String("out", "..", "the directory to write to")
	flag.Parse()
	log.SetFlags(0)

	types := newTable(scheme(), append(served, spoken...))
	write(*out, "types.txt", types.facts())
	write(*out, "descriptions.txt", types.descriptions())
	compress(*out, "descriptions")
	write(*out, "internal.txt", internalFacts(served))
	compress(*out, "internal")
	source, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		log.Fatal(err)
	}
	documents := filepath.Join(strings.TrimSpace(string(source)), "api")
	write(*out, "resources.txt", resources(documents, served))
}

func scheme() *runtime.Scheme {
	all := runtime.NewScheme()
	version := schema.GroupVersion{Group: "meta.k8s.io", Version: "v1"}
	for _, add := range []func(*runtime.Scheme) error{
		kubernetes.AddToScheme, admission.AddToScheme, discovery.AddToScheme,
		apiextensions.AddToScheme, apiregistration.AddToScheme, meta.AddMetaToScheme,
	} {
		if err := add(all); err != nil {
			log.Fatal(err)
		}
	}
	meta.AddToGroupVersion(all, version)
	return all
}

// compress writes the form of a table that is compiled in: nobody reads descriptions most of the time.
func compress(directory, name string) {
	text, err := os.ReadFile(filepath.Join(directory, name+".txt"))
	if err != nil {
		log.Fatal(err)
	}
	var out bytes.Buffer
	writer, _ := flate.NewWriter(&out, flate.BestCompression)
	if _, err = writer.Write(text); err == nil {
		err = writer.Close()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(directory, name+".deflate"), out.Bytes(), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func write(directory, name string, lines []string) {
	text := strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644); err != nil {
		log.Fatal(err)
	}
	log.Printf("%s: %d lines, %d bytes", name, len(lines), len(text))
}
