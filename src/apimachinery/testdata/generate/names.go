package main

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	util "k8s.io/apimachinery/pkg/util/validation"
)

var nameTexts = []string{
	"", "a", "0", "A", "-", ".", "..", "...", "..a", "a-", "-a", "a.", ".a", "a.b", "a..b", "a-b", "a_b", "_a", "__a",
	"a._b", "a/b", "a/b/c", "/a", "a/", "A.b/c", "a.b/C_d", "*.a.b", "*.*.a", "*a", "*", "é", "a b", "a\nb", "1a", "1-2",
	"a--b", "web", "web-", "w-", "http2", "80", "a%b", "a%", "%", "10%", "1.5%", "%5", "X-Y", "X_Y", "my.env-name", "1ENV", "A=B",
	"A B", "$x", "a\x00", "\x7f", "123", "-1", "-0", "01", "+1", "0x1", "9999999999999999999999", "a.b.c.d",
	"kubernetes.io/hostname", "example.com/my.name", "a" + strings.Repeat("-", 3) + "b",
	strings.Repeat("a", 15), strings.Repeat("a", 16), strings.Repeat("a", 63), strings.Repeat("a", 64),
	strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 126) + "ab", strings.Repeat("a", 254),
	strings.Repeat("a", 254) + "/b", "b/" + strings.Repeat("a", 64),
}

// nameCases has every message once; the cases have their numbers.
type nameCases struct {
	Messages []string   `json:"messages"`
	Cases    []nameCase `json:"cases"`
}

type nameCase struct {
	Text   string           `json:"text"`
	Errors map[string][]int `json:"errors"`
}

func names() nameCases {
	prefix := func(check func(string, bool) []string) func(string) []string {
		return func(text string) []string { return check(text, true) }
	}
	checks := map[string]func(string) []string{
		"dns1123_label":                     util.IsDNS1123Label,
		"dns1123_subdomain":                 util.IsDNS1123Subdomain,
		"dns1123_subdomain_with_underscore": util.IsDNS1123SubdomainWithUnderscore,
		"dns1123_subdomain_caseless":        content.IsDNS1123SubdomainCaseless,
		"dns1035_label":                     util.IsDNS1035Label,
		"wildcard_dns1123_subdomain":        util.IsWildcardDNS1123Subdomain,
		"qualified_name":                    util.IsQualifiedName,
		"prefixed_label_key":                content.IsPrefixedLabelKey,
		"label_value":                       util.IsValidLabelValue,
		"path_segment_name":                 content.IsPathSegmentName,
		"path_segment_prefix":               content.IsPathSegmentPrefix,
		"port_name":                         util.IsValidPortName,
		"percent":                           util.IsValidPercent,
		"http_header_name":                  util.IsHTTPHeaderName,
		"c_identifier":                      util.IsCIdentifier,
		"env_var_name":                      util.IsEnvVarName,
		"relaxed_env_var_name":              util.IsRelaxedEnvVarName,
		"config_map_key":                    util.IsConfigMapKey,
		"decimal_integer":                   content.IsDecimalInteger,
		"name_is_dns_subdomain":             prefix(validation.NameIsDNSSubdomain),
		"name_is_dns_label":                 prefix(validation.NameIsDNSLabel),
		"name_is_dns1035_label":             prefix(validation.NameIsDNS1035Label),
		"name_is_path_segment":              prefix(path.ValidatePathSegmentName),
	}
	var all nameCases
	for _, text := range nameTexts {
		c := nameCase{Text: text, Errors: map[string][]int{}}
		for _, name := range slices.Sorted(maps.Keys(checks)) {
			for _, message := range checks[name](text) {
				at := slices.Index(all.Messages, message)
				if at < 0 {
					at = len(all.Messages)
					all.Messages = append(all.Messages, message)
				}
				c.Errors[name] = append(c.Errors[name], at)
			}
		}
		all.Cases = append(all.Cases, c)
	}
	return all
}
