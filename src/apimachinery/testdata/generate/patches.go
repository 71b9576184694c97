package main

import (
	"encoding/json"
	"errors"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

type jsonPatchCase struct {
	Document json.RawMessage `json:"document"`
	Patch    json.RawMessage `json:"patch"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Pairs of a document and a patch.
var jsonPatches = [][2]string{
	{`{"a":1}`, `[]`},
	{`{"a":1}`, `[{"op":"add","path":"/b","value":{"c":[1,2]}}]`},
	{`{"a":1}`, `[{"op":"add","path":"/a","value":2}]`},
	{`{"a":1}`, `[{"op":"add","path":"/b/c","value":2}]`},
	{`{"a":1}`, `[{"op":"add","path":"/b"}]`},
	{`{"a":1}`, `[{"op":"add","path":"","value":{}}]`},
	{`{"a":1}`, `[{"op":"add","value":{}}]`},
	{`{"a":1}`, `[{"op":"add","path":"b","value":2}]`},
	{`{"a":1}`, `[{"op":"add","path":"x/b","value":2}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/-","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/0","value":0}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/2","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/3","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/-1","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/-3","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/-4","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/x","value":3}]`},
	{`{"a":[1,2]}`, `[{"op":"add","path":"/a/1/b","value":3}]`},
	{`{"a":[{"b":1}]}`, `[{"op":"add","path":"/a/0/c","value":null}]`},
	{`{"a/b":{"c~d":1}}`, `[{"op":"replace","path":"/a~1b/c~0d","value":2}]`},
	{`{"a":1,"b":2}`, `[{"op":"remove","path":"/a"}]`},
	{`{"a":1}`, `[{"op":"remove","path":"/b"}]`},
	{`{"a":1}`, `[{"op":"remove","path":"/b/c"}]`},
	{`{"a":1}`, `[{"op":"remove","path":""}]`},
	{`{"a":[1,2,3]}`, `[{"op":"remove","path":"/a/1"}]`},
	{`{"a":[1,2,3]}`, `[{"op":"remove","path":"/a/-1"}]`},
	{`{"a":[1,2,3]}`, `[{"op":"remove","path":"/a/3"}]`},
	{`{"a":[1,2,3]}`, `[{"op":"remove","path":"/a/-"}]`},
	{`{"a":1}`, `[{"op":"replace","path":"/a","value":2}]`},
	{`{"a":1}`, `[{"op":"replace","path":"/b","value":2}]`},
	{`{"a":1}`, `[{"op":"replace","path":"","value":{"b":2}}]`},
	{`{"a":1}`, `[{"op":"replace","path":"/a"}]`},
	{`{"a":[1]}`, `[{"op":"replace","path":"/a/0","value":2}]`},
	{`{"a":[1]}`, `[{"op":"replace","path":"/a/1","value":2}]`},
	{`{"a":[1]}`, `[{"op":"replace","path":"/a/-1","value":2}]`},
	{`{"a":1,"b":{}}`, `[{"op":"move","from":"/a","path":"/b/c"}]`},
	{`{"a":1}`, `[{"op":"move","from":"/x","path":"/b"}]`},
	{`{"a":1}`, `[{"op":"move","from":"/x/y","path":"/b"}]`},
	{`{"a":1}`, `[{"op":"move","path":"/b"}]`},
	{`{"a":[1,2,3]}`, `[{"op":"move","from":"/a/0","path":"/a/2"}]`},
	{`{"a":[1,2,3]}`, `[{"op":"move","from":"/a/5","path":"/a/2"}]`},
	{`{"a":{"b":1}}`, `[{"op":"copy","from":"/a","path":"/c"}]`},
	{`{"a":1}`, `[{"op":"copy","from":"/x","path":"/b"}]`},
	{`{"a":1}`, `[{"op":"copy","from":"/a","path":"/b/c"}]`},
	{`{"a":[1]}`, `[{"op":"copy","from":"/a/1","path":"/b"}]`},
	{`{"a":{"b":[1,"x"]}}`, `[{"op":"test","path":"/a","value":{"b":[1,"x"]}}]`},
	{`{"a":{"b":[1,"x"]}}`, `[{"op":"test","path":"/a/b","value":["x",1]}]`},
	{`{"a":1}`, `[{"op":"test","path":"/a","value":"1"}]`},
	{`{"a":1}`, `[{"op":"test","path":"/b","value":null}]`},
	{`{"a":1}`, `[{"op":"test","path":"/b","value":1}]`},
	{`{"a":null}`, `[{"op":"test","path":"/a","value":null}]`},
	{`{"a":null}`, `[{"op":"test","path":"/a","value":1}]`},
	{`{"a":1}`, `[{"op":"test","path":"/a","value":null}]`},
	{`{"a":1}`, `[{"op":"test","path":"/b/c","value":1}]`},
	{`{"a":1}`, `[{"op":"test","path":"","value":{"a":1}}]`},
	{`{"a":1}`, `[{"op":"test","path":"","value":{"a":2}}]`},
	{`{"a":[1]}`, `[{"op":"test","path":"/a/1","value":2}]`},
	{`{"a":1}`, `[{"op":"test","path":"/a","value":2},{"op":"remove","path":"/a"}]`},
	{`{"a":1}`, `[{"op":"add","path":"/b","value":[]},{"op":"add","path":"/b/-","value":{}},{"op":"add","path":"/b/0/c","value":1},{"op":"remove","path":"/a"}]`},
	{`{"a":1}`, `[{"op":"frobnicate","path":"/a"}]`},
	{`{"a":1}`, `[{"path":"/a"}]`},
	{`{"a":null}`, `[{"op":"add","path":"/a/b","value":1}]`},
	{`{"a":"x"}`, `[{"op":"add","path":"/a/b","value":1}]`},
}

func jsonPatchCases() []jsonPatchCase {
	var cases []jsonPatchCase
	for _, pair := range jsonPatches {
		c := jsonPatchCase{Document: json.RawMessage(pair[0]), Patch: json.RawMessage(pair[1])}
		patch, err := jsonpatch.DecodePatch(c.Patch)
		if err == nil {
			c.Result, err = patch.Apply(c.Document)
		}
		if err != nil {
			c.Result, c.Error = nil, err.Error()
		}
		cases = append(cases, c)
	}
	return cases
}

type strategicCase struct {
	Kind   string          `json:"kind"`
	Object json.RawMessage `json:"object"`
	Patch  json.RawMessage `json:"patch"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

var patchKinds = map[string]any{
	"Pod": corev1.Pod{}, "Deployment": appsv1.Deployment{}, "Service": corev1.Service{},
	"ConfigMap": corev1.ConfigMap{}, "ServiceAccount": corev1.ServiceAccount{}, "Node": corev1.Node{},
}

const (
	twoContainers = `{"spec":{"containers":[{"name":"a","image":"a:1","env":[{"name":"X","value":"1"},{"name":"Y","value":"2"}],"ports":[{"containerPort":80},{"containerPort":81}],"args":["p","q"]},{"name":"b","image":"b:1"}]}}`
	volumes       = `{"spec":{"volumes":[{"name":"v","emptyDir":{}},{"name":"w","hostPath":{"path":"/w"}}],"tolerations":[{"key":"a"}]}}`
	ports         = `{"spec":{"ports":[{"name":"dns","port":53,"protocol":"UDP"},{"name":"dns-tcp","port":53,"protocol":"TCP"},{"name":"web","port":80}],"selector":{"a":"1"}}}`
	rolling       = `{"spec":{"replicas":1,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}`
	finalizers    = `{"metadata":{"finalizers":["a/1","b/2","c/3"],"labels":{"x":"1","y":"2"},"ownerReferences":[{"uid":"1","name":"n"},{"uid":"2","name":"m"}]}}`
)

// Triples of a kind, an object and a patch.
var strategicPatches = [][3]string{
	{"Pod", twoContainers, `{}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","image":"a:2"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"b","image":"b:2"},{"name":"a","image":"a:2"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"c","image":"c:1"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"c","image":"c:1"},{"name":"a","tty":true},{"name":"d"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","$patch":"delete"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"x","$patch":"delete"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"$patch":"delete"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"$patch":"replace"},{"name":"z","image":"z"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"$patch":"merge","name":"a"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"$patch":"bogus","name":"a"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"image":"a:2"}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","image":"1"},{"name":"a","tty":true}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"n","image":"1"},{"name":"n","tty":true}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":["a"]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[["a"]]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":null}}`},
	{"Pod", twoContainers, `{"spec":{"containers":{}}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","args":["r"]}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","args":null,"image":null}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","env":[{"name":"Z","value":"3"},{"name":"X","$patch":"delete"}]}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","ports":[{"containerPort":82},{"containerPort":80,"name":"h"}]}]}}`},
	{"Pod", twoContainers, `{"spec":{"containers":[{"name":"a","ports":[{"containerPort":"80"}]}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","image":"a:2"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"},{"name":"c"}],"containers":[{"name":"c"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"b"}],"containers":[{"name":"c"},{"name":"a","$patch":"delete"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"a"},{"name":"c"}],"containers":[{"name":"c"},{"name":"a"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"c"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":["a"],"containers":[{"name":"a"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":{},"containers":[{"name":"a"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"c"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/initContainers":[{"name":"c"}],"initContainers":[{"name":"c","image":null},{"name":"d","$patch":"delete"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/initContainers":[{"name":"c"}]}}`},
	{"Pod", twoContainers, `{"spec":{"$setElementOrder/containers":[{"name":"a"},{"name":"b"}],"containers":[{"name":"a","$setElementOrder/env":[{"name":"Y"},{"name":"X"}],"env":[{"name":"X","value":"9"}]}]}}`},
	{"Pod", twoContainers, `{"spec":{"hostAliases":[{"ip":"1.2.3.4","hostnames":["a"]}],"nodeSelector":{"a":null,"b":"1"}}}`},
	{"Pod", twoContainers, `{"spec":{"affinity":{"$patch":"replace","nodeAffinity":{}},"securityContext":{"runAsUser":1,"x":null}}}`},
	{"Pod", volumes, `{"spec":{"volumes":[{"name":"w","$retainKeys":["name","secret"],"secret":{"secretName":"s"}}]}}`},
	{"Pod", volumes, `{"spec":{"volumes":[{"name":"w","$retainKeys":["name"],"secret":{"secretName":"s"}}]}}`},
	{"Pod", volumes, `{"spec":{"volumes":[{"name":"w","$retainKeys":"name"}]}}`},
	{"Pod", volumes, `{"spec":{"volumes":[{"name":"w","$retainKeys":["name"],"hostPath":null}]}}`},
	{"Pod", volumes, `{"spec":{"volumes":[{"name":"u","$retainKeys":["name","secret"],"secret":{"secretName":"s"}}]}}`},
	{"Pod", volumes, `{"spec":{"volumes":[{"name":"w","hostPath":null,"emptyDir":{"medium":"Memory"}}]}}`},
	{"Pod", volumes, `{"spec":{"tolerations":[{"key":"b"}]}}`},
	{"Pod", volumes, `{"spec":{"$patch":"replace","volumes":[{"name":"x","emptyDir":null}]}}`},
	{"Pod", volumes, `{"spec":{"$patch":"delete"}}`},
	{"Pod", volumes, `{"spec":{"$patch":"bogus","a":1}}`},
	{"Pod", volumes, `{"spec":{"$patch":"merge"}}`},
	{"Pod", volumes, `{"$patch":"delete"}`},
	{"Deployment", rolling, `{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}`},
	{"Deployment", rolling, `{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}`},
	{"Deployment", rolling, `{"spec":{"strategy":{"$retainKeys":["rollingUpdate"],"rollingUpdate":{"maxUnavailable":"10%"}}}}`},
	{"Deployment", rolling, `{"spec":{"replicas":3,"template":{"spec":{"containers":[{"name":"a","$patch":"delete"},{"name":"b","image":null}]}}}}`},
	{"Service", ports, `{"spec":{"ports":[{"port":53,"nodePort":30053}]}}`},
	{"Service", ports, `{"spec":{"ports":[{"port":443,"name":"tls"}]}}`},
	{"Service", ports, `{"spec":{"ports":[{"port":443,"name":"tls"},{"port":80,"targetPort":"web"}]}}`},
	{"Service", ports, `{"spec":{"ports":[{"port":53,"$patch":"delete"}]}}`},
	{"Service", ports, `{"spec":{"$setElementOrder/ports":[{"port":80},{"port":53}]}}`},
	{"Service", ports, `{"spec":{"selector":{"$patch":"replace","b":"2"}}}`},
	{"Service", ports, `{"spec":{"selector":{"b":"2"}}}`},
	{"Service", ports, `{"spec":{"selector":null}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"finalizers":["d/4","b/2"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"finalizers":["d/4","d/4","a/1"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["b/2"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["b/2","x"],"$setElementOrder/finalizers":["c/3","a/1"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"$setElementOrder/finalizers":["c/3","n/1","a/1"],"finalizers":["n/1"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"$setElementOrder/finalizers":["c/3"],"finalizers":["n/1"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"$deleteFromPrimitiveList/nothing":["b/2"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"$deleteFromPrimitiveListfinalizers":["b/2"]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"$deleteFromPrimitiveList/finalizers":null}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"finalizers":[1]}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"finalizers":null,"labels":{"x":null}}}`},
	{"ServiceAccount", finalizers, `{"metadata":{"ownerReferences":[{"uid":"2","$patch":"delete"},{"uid":"3"}]}}`},
	{"ServiceAccount", `{"secrets":[{"name":"a"},{"name":"b"}]}`, `{"secrets":[{"name":"c"}],"imagePullSecrets":[{"name":"r","x":null}]}`},
	{"ConfigMap", `{"data":{"a":"1"},"immutable":true}`, `{"data":{"a":"2","b":null,"c":"3"},"immutable":null,"binaryData":{"x":"eA==","y":null}}`},
	{"ConfigMap", `{"data":{"a":"1"}}`, `{"data":"x"}`},
	{"Node", `{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"Disk","status":"False"}],"addresses":[{"type":"Hostname","address":"h"}]}}`, `{"status":{"$setElementOrder/conditions":[{"type":"Disk"},{"type":"Ready"}],"conditions":[{"type":"Ready","status":"False"}],"addresses":[{"type":"InternalIP","address":"1.1.1.1"}]}}`},
	{"Node", `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"},{"key":"b","effect":"NoExecute"}]}}`, `{"spec":{"taints":[{"key":"c","effect":"NoSchedule"}],"$setElementOrder/taints":[{"key":"c"},{"key":"a"}]}}`},
}

// strategicMerge reports a panic as an error: the API server recovers from them too.
func strategicMerge(c strategicCase) (result []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("panic")
		}
	}()
	return strategicpatch.StrategicMergePatch(c.Object, c.Patch, patchKinds[c.Kind])
}

func strategicCases() []strategicCase {
	var cases []strategicCase
	for _, triple := range strategicPatches {
		c := strategicCase{Kind: triple[0], Object: json.RawMessage(triple[1]), Patch: json.RawMessage(triple[2])}
		result, err := strategicMerge(c)
		if err != nil {
			c.Error = err.Error()
		} else {
			c.Result = result
		}
		cases = append(cases, c)
	}
	return cases
}
