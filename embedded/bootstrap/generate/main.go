// Prints what upstream's API server writes into an empty cluster: RBAC policy as a table of text,
// priority and fairness objects as JSON. Run by `make bootstrap`; the output is reviewed and
// committed.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

func main() {
	switch os.Args[1] {
	case "rbac":
		policy()
	case "flowcontrol":
		flowcontrol()
	}
}

func policy() {
	for _, role := range append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...) {
		fmt.Printf("clusterrole %s\n", role.Name)
		labels(role.ObjectMeta)
		if role.AggregationRule != nil {
			for _, selector := range role.AggregationRule.ClusterRoleSelectors {
				for key, value := range selector.MatchLabels {
					fmt.Printf("  aggregate %s=%s\n", key, value)
				}
			}
		}
		rules(role.Rules)
	}
	for _, binding := range append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...) {
		fmt.Printf("clusterrolebinding %s %s %s\n", binding.Name, binding.RoleRef.Kind, binding.RoleRef.Name)
		labels(binding.ObjectMeta)
		subjects(binding.Subjects)
	}
	roles := bootstrappolicy.NamespaceRoles()
	for _, namespace := range sorted(roles) {
		for _, role := range roles[namespace] {
			fmt.Printf("role %s %s\n", namespace, role.Name)
			labels(role.ObjectMeta)
			rules(role.Rules)
		}
	}
	bindings := bootstrappolicy.NamespaceRoleBindings()
	for _, namespace := range sorted(bindings) {
		for _, binding := range bindings[namespace] {
			fmt.Printf("rolebinding %s %s %s %s\n", namespace, binding.Name, binding.RoleRef.Kind, binding.RoleRef.Name)
			labels(binding.ObjectMeta)
			subjects(binding.Subjects)
		}
	}
}

func sorted[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Only what not every object of the policy has.
func labels(meta v1.ObjectMeta) {
	for _, key := range sorted(meta.Labels) {
		if key != "kubernetes.io/bootstrapping" {
			fmt.Printf("  label %s=%s\n", key, meta.Labels[key])
		}
	}
	for _, key := range sorted(meta.Annotations) {
		if key != "rbac.authorization.kubernetes.io/autoupdate" {
			fmt.Printf("  annotation %s=%s\n", key, meta.Annotations[key])
		}
	}
	if meta.Labels["kubernetes.io/bootstrapping"] != "rbac-defaults" || meta.Annotations["rbac.authorization.kubernetes.io/autoupdate"] != "true" {
		panic(meta.Name)
	}
}

func rules(rules []rbac.PolicyRule) {
	for _, rule := range rules {
		fmt.Print("  rule")
		list("verbs", rule.Verbs)
		list("groups", rule.APIGroups)
		list("resources", rule.Resources)
		list("names", rule.ResourceNames)
		list("urls", rule.NonResourceURLs)
		fmt.Println()
	}
}

func list(name string, values []string) {
	if len(values) > 0 {
		fmt.Printf(" %s=%s", name, strings.Join(values, ","))
	}
}

func subjects(subjects []rbac.Subject) {
	for _, subject := range subjects {
		fmt.Printf("  subject %s %s", subject.Kind, subject.Name)
		if subject.Namespace != "" {
			fmt.Printf(" %s", subject.Namespace)
		}
		fmt.Println()
	}
}

type object struct {
	Kind      string            `json:"kind"`
	Name      string            `json:"name"`
	Mandatory bool              `json:"mandatory"`
	Labels    map[string]string `json:"labels,omitempty"`
	Spec      any               `json:"spec"`
}

func flowcontrol() {
	encoder := json.NewEncoder(os.Stdout)
	levels := bootstrap.MandatoryPriorityLevelConfigurations
	for at, level := range append(slices.Clone(levels), bootstrap.SuggestedPriorityLevelConfigurations...) {
		encoder.Encode(object{"PriorityLevelConfiguration", level.Name, at < len(levels), level.Labels, level.Spec})
	}
	schemas := bootstrap.MandatoryFlowSchemas
	for at, schema := range append(slices.Clone(schemas), bootstrap.SuggestedFlowSchemas...) {
		encoder.Encode(object{"FlowSchema", schema.Name, at < len(schemas), schema.Labels, schema.Spec})
	}
}
