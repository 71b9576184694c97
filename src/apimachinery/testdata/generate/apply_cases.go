package main

import (
	"encoding/json"
	"fmt"
)

// apply and update make steps out of the text of an object.
func apply(manager, object string) applyStep {
	return applyStep{Op: "apply", Manager: manager, Object: json.RawMessage(object)}
}

func force(manager, object string) applyStep {
	step := apply(manager, object)
	step.Force = true
	return step
}

func update(manager, object string) applyStep {
	return applyStep{Op: "update", Manager: manager, Object: json.RawMessage(object)}
}

func status(step applyStep) applyStep {
	step.Subresource = "status"
	step.Exclude = []string{"spec", "metadata.labels"}
	return step
}

func main_(step applyStep) applyStep {
	step.Exclude = []string{"status"}
	return step
}

func deployment(metadata, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n"%s},"spec":%s}`, metadata, spec)
}

func template(containers string) string {
	return fmt.Sprintf(`"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[%s]}}`, containers)
}

func service(ports string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"selector":{"a":"b"},"ports":[%s]}}`, ports)
}

func configMap(rest string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}%s}`, rest)
}

func pod(metadata, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"%s},"spec":{%s}}`, metadata, spec)
}

func widget(rest string) string {
	return fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"}%s}`, rest)
}

const widgetSchema = `{"type":"object","properties":{
 "spec":{"type":"object","properties":{
  "size":{"type":"integer"},"name":{"type":"string"},"on":{"type":"boolean"},"port":{"x-kubernetes-int-or-string":true},
  "parts":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["id","zone"],"items":{"type":"object","required":["id"],"properties":{
    "id":{"type":"integer"},"zone":{"type":"string","default":"a"},"value":{"type":"string"},"tags":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}}}}},
  "numbers":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"integer"}},
  "plain":{"type":"array","items":{"type":"object","properties":{"x":{"type":"string"}}}},
  "sealed":{"type":"object","x-kubernetes-map-type":"atomic","properties":{"x":{"type":"string"},"y":{"type":"string"}}},
  "labels":{"type":"object","additionalProperties":{"type":"string"}},
  "groups":{"type":"object","additionalProperties":{"type":"object","properties":{"x":{"type":"string"},"y":{"type":"string"}}}},
  "free":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
  "half":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"known":{"type":"object","properties":{"x":{"type":"string"}}}}},
  "any":{"x-kubernetes-preserve-unknown-fields":true}}},
 "status":{"type":"object","properties":{"ready":{"type":"boolean"}}}}}`

const secondContainer = `{"name":"y","image":"y:1","resources":{"limits":{"cpu":"1"}}}`

func applyCases() []applyCase {
	one := template(`{"name":"x","image":"x:1","env":[{"name":"A","value":"1"},{"name":"B","value":"2"}],"ports":[{"containerPort":80}]}`)
	two := template(`{"name":"x","image":"x:1","env":[{"name":"B","value":"2"}]},` + secondContainer)
	three := template(secondContainer + `,{"name":"x","image":"x:2","args":["a"]}`)
	full := `{"replicas":3,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600,` +
		template(`{"name":"x","image":"x:1","imagePullPolicy":"Always","resources":{},"terminationMessagePath":"/dev/termination-log","env":[{"name":"A","value":"1"}],"ports":[{"containerPort":80,"protocol":"TCP"}]}`) + `}`
	lastApplied := `,"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"d\",\"namespace\":\"n\"},\"spec\":{\"replicas\":3}}"}`
	cases := []applyCase{
		{Name: "create, then apply the same and less", Steps: []applyStep{
			apply("me", deployment("", `{"replicas":3,`+one+`}`)),
			apply("me", deployment("", `{"replicas":3,`+one+`}`)),
			apply("me", deployment("", `{`+one+`}`)),
			apply("me", deployment("", `{`+two+`}`)),
			apply("me", deployment("", `{`+three+`}`)),
			apply("me", deployment(`,"labels":{"l":"1"},"annotations":{"x":"y"}`, `{`+one+`}`)),
			apply("me", deployment(`,"labels":{}`, `{`+one+`}`)),
		}},
		{Name: "conflicts", Steps: []applyStep{
			apply("me", deployment("", `{"replicas":3,"paused":true,`+one+`}`)),
			apply("you", deployment("", `{"replicas":4,"paused":false,"template":{"spec":{"containers":[{"name":"x","image":"x:2"}]}}}`)),
			apply("you", deployment("", `{"replicas":4}`)),
			force("you", deployment("", `{"replicas":4}`)),
			apply("me", deployment("", `{"replicas":3,"paused":true,`+one+`}`)),
			apply("me", deployment("", `{"replicas":4,"paused":true,`+one+`}`)),
			apply("you", deployment("", `{}`)),
			update("editor", deployment("", `{"replicas":4,`+two+`}`)),
			apply("me", deployment("", `{"replicas":9,"paused":true,`+one+`}`)),
			force("me", deployment("", `{"replicas":9,"paused":true,`+one+`}`)),
			apply("third", deployment("", `{"replicas":1,"minReadySeconds":1,"selector":{"matchLabels":{"z":"z"}}}`)),
		}},
		{Name: "updates, status and scale", Steps: []applyStep{
			main_(update("kubectl-create", deployment(`,"labels":{"a":"b"}`, full))),
			status(update("kube-controller-manager", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n","uid":"1","labels":{"a":"b"},"annotations":{"deployment.kubernetes.io/revision":"1"}},"spec":`+full+`,"status":{"observedGeneration":1,"replicas":3,"conditions":[{"type":"Available","status":"True","lastUpdateTime":"2024-01-01T00:00:00Z","lastTransitionTime":"2024-01-01T00:00:00Z","reason":"r","message":"m"}]}}`)),
			main_(update("kubectl-edit", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n","uid":"1","labels":{"c":"d"},"annotations":{"deployment.kubernetes.io/revision":"1"}},"spec":{"replicas":5,`+one+`},"status":{"observedGeneration":1,"replicas":3,"conditions":[{"type":"Available","status":"False","lastUpdateTime":"2024-01-01T00:00:00Z","lastTransitionTime":"2024-01-01T00:00:00Z","reason":"r","message":"m"},{"type":"Progressing","status":"True"}]}}`)),
			main_(apply("applier", deployment("", `{"replicas":5}`))),
			main_(apply("applier", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n"},"status":{"replicas":7}}`)),
			status(apply("applier", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n"},"status":{"conditions":[{"type":"Mine","status":"True"}]}}`)),
			main_(update("", deployment("", full))),
		}},
		{Name: "before the first apply", Live: json.RawMessage(deployment(`,"uid":"1","labels":{"old":"1"}`, full)), Steps: []applyStep{
			update("nobody", deployment(`,"uid":"1"`, full)),
			apply("me", deployment("", `{"replicas":5}`)),
			apply("me", deployment(`,"labels":{"new":"1"}`, `{"replicas":3}`)),
			apply("me", deployment("", `{}`)),
		}},
		{Name: "client-side apply before", Live: json.RawMessage(deployment(lastApplied+`,"uid":"1"`, full)), Steps: []applyStep{
			apply("me", deployment("", `{"replicas":5}`)),
			apply("kubectl", deployment("", `{"replicas":5,"progressDeadlineSeconds":1}`)),
			apply("kubectl", deployment(`,"annotations":{"note":"a<b&c"}`, `{"replicas":5}`)),
			apply("kubectl", deployment("", `{"replicas":6}`)),
		}},
		{Name: "more updaters than are kept", Steps: []applyStep{
			update("m0", configMap(`,"data":{"k0":"1"}`)),
		}},
		{Name: "service ports", Steps: []applyStep{
			apply("me", service(`{"name":"dns","port":53,"protocol":"UDP"},{"name":"dns-tcp","port":53}`)),
			apply("you", service(`{"name":"web","port":80,"targetPort":"http"}`)),
			apply("me", service(`{"name":"dns-tcp","port":53,"targetPort":5353}`)),
			apply("you", service(`{"name":"other","port":53,"protocol":"TCP"}`)),
			apply("me", service(`{"name":"a","port":53},{"name":"b","port":53}`)),
			apply("me", service(`{"name":"a"}`)),
			update("edit", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s","uid":"1"},"spec":{"selector":{"a":"c"},"clusterIP":"10.0.0.1","ports":[{"name":"x","port":443,"protocol":"TCP"},{"name":"web","port":80,"protocol":"TCP","nodePort":30080}]},"status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"}]}}}`),
		}},
		{Name: "a map that loses its entries", Steps: []applyStep{
			apply("me", configMap(`,"data":{"a":"1","b":"2"}`)),
			apply("you", configMap(`,"data":{"c":"3"}`)),
			apply("me", configMap(`,"data":{"a":"1"}`)),
			apply("me", configMap(``)),
			apply("you", configMap(`,"data":{}`)),
			apply("you", configMap(`,"data":null`)),
			apply("me", configMap(`,"data":{"a":null}`)),
			apply("me", configMap(`,"immutable":true,"binaryData":{"x":"eA=="}`)),
		}},
		{Name: "pod lists", Steps: []applyStep{
			apply("me", pod(`,"finalizers":["b/1","a/1"]`, `"containers":[{"name":"a","image":"a"},{"name":"b","image":"b"},{"name":"c","image":"c"}],"tolerations":[{"key":"x"}],"volumes":[{"name":"v","emptyDir":{}}],"hostAliases":[{"ip":"1.1.1.1","hostnames":["x"]}]`)),
			apply("you", pod(`,"finalizers":["c/1","a/1"]`, `"containers":[{"name":"d","image":"d"},{"name":"b","image":"b"}],"tolerations":[{"key":"x"}]`)),
			apply("you", pod(`,"finalizers":["c/1"]`, `"containers":[{"name":"c"},{"name":"e"},{"name":"a"}]`)),
			apply("me", pod(``, `"containers":[{"name":"b","image":"b"}],"volumes":[{"name":"v","configMap":{"name":"c"}}]`)),
			update("edit", pod(`,"uid":"1","finalizers":["z/1"],"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"2"}]`, `"containers":[{"name":"b","image":"b","env":[{"name":"A","value":"1"},{"name":"A","value":"2"}],"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"nodeName":"n"`)),
			update("edit", pod(`,"uid":"1"`, `"containers":[{"name":"b","image":"b","env":[{"name":"A","value":"1"}],"volumeMounts":[{"name":"v","mountPath":"/v","readOnly":true}]}],"nodeName":"n"`)),
			apply("me", pod(``, `"containers":[{"name":"b","image":"b","env":[{"name":"A","value":"3"}]}]`)),
			update("edit", pod(`,"uid":"1"`, `"containers":[{"name":"b","image":"b","env":[{"name":"A","value":"1"},{"name":"A","value":"2"},{"name":"B","value":"2"}]}],"nodeName":"n"`)),
			force("me", pod(``, `"containers":[{"name":"b","image":"b","env":[{"name":"A","value":"3"}]}]`)),
		}},
		{Name: "configurations that cannot be applied", Steps: []applyStep{
			apply("me", deployment("", `{"replica":3}`)),
			apply("me", deployment("", `{"replicas":"3"}`)),
			apply("me", deployment("", `{"paused":1}`)),
			apply("me", deployment("", `{"template":{"spec":{"containers":[{"name":1}]}}}`)),
			apply("me", deployment("", `{"template":{"spec":{"containers":[{"name":"a"},{"name":"a"}]}}}`)),
			apply("me", deployment("", `{"template":{"spec":{"containers":[{"image":"a"}]}}}`)),
			apply("me", deployment("", `{"template":{"spec":{"containers":["a"]}}}`)),
			apply("me", deployment("", `{"template":{"spec":{"containers":[null]}}}`)),
			apply("me", deployment("", `{"template":{"spec":{"containers":{}}}}`)),
			apply("me", deployment("", `{"template":{"spec":{"containers":[{"name":"a","args":[1],"env":[{"name":"x","value":true}]}]}}}`)),
			apply("me", deployment("", `{"template":"a"}`)),
			apply("me", deployment("", `{"strategy":{"rollingUpdate":{"maxSurge":[]}}}`)),
			apply("me", deployment(`,"managedFields":[]`, `{}`)),
			apply("me", deployment(`,"finalizers":[{}]`, `{}`)),
			apply("me", deployment(`,"finalizers":[null]`, `{}`)),
			apply("me", deployment(`,"finalizers":["a","a"]`, `{}`)),
			apply("me", deployment(`,"labels":{"a":1}`, `{}`)),
		}},
		{Name: "managedFields of the client", Steps: []applyStep{
			apply("me", configMap(`,"data":{"a":"1"}`)),
			update("edit", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","uid":"1","managedFields":[{"manager":"x","operation":"Apply","apiVersion":"v1","time":"2025-01-01T00:00:00+01:00","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:a":{},"f:z":{}}}}]},"data":{"a":"2"}}`),
			update("edit", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","uid":"1","managedFields":[{"manager":"x","operation":"Nonsense"}]},"data":{"a":"3"}}`),
			update("edit", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","uid":"1","managedFields":[{}]},"data":{"a":"4"}}`),
			update("edit", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","uid":"1"},"data":{"a":"5"}}`),
			apply("me", configMap(`,"data":{"b":"1"}`)),
			update("edit", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","uid":"1","managedFields":[]},"data":{"a":"6"}}`),
		}},
		{Name: "custom resource", Schema: json.RawMessage(widgetSchema), Steps: []applyStep{
			apply("me", widget(`,"spec":{"size":1,"port":"http","parts":[{"id":1,"value":"x"},{"id":2,"zone":"b","tags":["t","s"]}],"numbers":[3,1,2],"plain":[{"x":"1"}],"sealed":{"x":"1"},"labels":{"a":"b"}}`)),
			apply("you", widget(`,"spec":{"size":1,"port":80,"parts":[{"id":1,"zone":"a","value":"y"}],"numbers":[2,5],"plain":[],"sealed":{"y":"1"},"labels":{"a":"c"}}`)),
			force("you", widget(`,"spec":{"port":80,"parts":[{"id":1,"zone":"a","value":"y"},{"id":2,"zone":"b","tags":["s","u"]}],"numbers":[2,5],"sealed":{"y":"1"},"labels":{"c":"c"}}`)),
			apply("me", widget(`,"spec":{"size":1,"parts":[{"id":2,"zone":"b"}],"labels":{}}`)),
			apply("you", widget(`,"spec":{"parts":[]}`)),
			apply("you", widget(``)),
			update("edit", widget(`,"spec":{"size":2,"groups":{"g":{"x":"1","y":"2"}},"free":{"a":{"b":[1,2]},"c":null},"any":[{"x":1}],"half":{"known":{"x":"1"},"other":{"a":1}}},"status":{"ready":true}`)),
			apply("me", widget(`,"spec":{"groups":{"g":{"x":"1"},"h":{}},"free":{"a":{"b":[1,2],"d":"e"}},"any":[{"x":1}]}`)),
			apply("me", widget(`,"spec":{"groups":{"h":{"y":"1"}},"free":{"a":"now text"},"any":{"x":{"y":1}}}`)),
			force("me", widget(`,"spec":{"groups":{"h":{"y":"1"}},"free":{"a":"now text"},"any":{"x":{"y":1}}}`)),
			apply("me", widget(`,"spec":{"any":3,"half":{"known":{"x":"1"}}}`)),
			force("me", widget(`,"spec":{"any":null,"half":{"other":{"a":2}}}`)),
			apply("me", widget(`,"spec":{"wrong":1}`)),
			apply("me", widget(`,"spec":{"numbers":[1,1]}`)),
			apply("me", widget(`,"spec":{"parts":[{"id":1},{"id":1,"zone":"a"}]}`)),
			apply("me", widget(`,"spec":{"parts":[{"value":"only a default for a key"}]}`)),
			update("edit", widget(`,"spec":{"numbers":[1,2,2],"parts":[{"id":1},{"id":1},{"id":3}]}`)),
			update("edit", widget(`,"spec":{"numbers":[2,2,4],"parts":[{"id":1,"value":"v"},{"id":3},{"id":3}]}`)),
			update("other", widget(`,"spec":{"numbers":[2],"parts":[{"id":3}]}`)),
		}},
	}
	many := &cases[5]
	data := `"k0":"1"`
	for i := 1; i < 13; i++ {
		data += fmt.Sprintf(`,"k%d":"1"`, i)
		many.Steps = append(many.Steps, update(fmt.Sprintf("m%d", i), configMapUID(data)))
	}
	many.Steps = append(many.Steps, update("m3", configMapUID(`"k3":"2"`)))
	return runAll(cases)
}

func configMapUID(data string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","uid":"1"},"data":{%s}}`, data)
}
