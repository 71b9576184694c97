// Command oracle says what Kubernetes' own packages make of objects: it reads JSON documents, one a
// line, and writes for each one line of what decoding, defaulting and protobuf give.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log"
	"os"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializers "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/install"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/authentication/install"
	_ "k8s.io/kubernetes/pkg/apis/authorization/install"
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

type answer struct {
	Error     string          `json:"error,omitempty"`
	Strict    []string        `json:"strict,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
	Defaulted json.RawMessage `json:"defaulted,omitempty"`
	Proto     string          `json:"proto,omitempty"`
}

func main() {
	scheme := legacyscheme.Scheme
	apiextensions.Install(scheme)
	apiregistration.Install(scheme)
	strict := serializers.NewSerializerWithOptions(serializers.DefaultMetaFactory, scheme, scheme, serializers.SerializerOptions{Strict: true})
	proto := protobuf.NewRawSerializer(scheme, scheme)

	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		if err := out.Encode(ask(scheme, strict, proto, line)); err != nil {
			log.Fatal(err)
		}
	}
}

func ask(scheme *runtime.Scheme, strict runtime.Serializer, proto runtime.Encoder, line []byte) (a answer) {
	var kind schema.GroupVersionKind
	object, _, err := strict.Decode(line, &kind, nil)
	if err != nil {
		wrapped, isStrict := runtime.AsStrictDecodingError(err)
		if !isStrict {
			return answer{Error: err.Error()}
		}
		for _, err := range wrapped.Errors() {
			a.Strict = append(a.Strict, err.Error())
		}
	}
	a.Value, err = json.Marshal(object)
	if err != nil {
		return answer{Error: err.Error()}
	}
	var raw writer
	if err := proto.Encode(object, &raw); err == nil {
		a.Proto = base64.StdEncoding.EncodeToString(raw)
	}
	scheme.Default(object)
	a.Defaulted, err = json.Marshal(object)
	if err != nil {
		return answer{Error: errors.Join(errors.New("after defaulting"), err).Error()}
	}
	return a
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}
