package main

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

var labelSelectors = []string{
	"", "a", "!a", "a=1", "a==1", "a!=1", "a in (1)", "a in (2,1,1)", "a notin (1,2)", "a>1", "a<10",
	"a=1,b=2", "b=2,a=1", "a,!b", " a = 1 , b != 2 ", "a in ()", "a in (,1)", "a in (1,)", "a in (,)",
	"a in (1,,2)", "a=", "a!=", "a notin ()", "x/y=1", "example.com/app in (web, api)", "in=1",
	"notin in (in,notin)", "a=in", "a>x", "a<1.5", "a>", "a!", "!", "!!a", "a=1=2", "a b", "a in 1",
	"a in (1", "a in 1)", "(a)", ",", ",a", "a,", "a,,b", "a===1", "a=!1", "a in (1 2)", "a in (=)",
	"-a=1", "a=-1", "a=1-", "a/b/c=1", "/a", "a/", "A.B/c", "a\t=\n1", "a=1;b=2", "a in(1,2)",
	"a notin(1)", "a=é", "é=1", "a<>1", "a=>1", "a !=1", "a! =1", "!a=1", "!a in (1)",
	"a=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
}

var labelSets = []labels.Set{
	{}, {"a": "1"}, {"a": "2"}, {"a": ""}, {"b": "2"}, {"a": "1", "b": "2"}, {"a": "x"}, {"a": "5"},
	{"a": "in"}, {"in": "1"}, {"notin": "in"}, {"x/y": "1"}, {"example.com/app": "api"},
}

var objectSelectors = []string{
	`null`, `{}`, `{"matchLabels":{"a":"1"}}`, `{"matchLabels":{"b":"2","a":"1"}}`,
	`{"matchExpressions":[{"key":"a","operator":"In","values":["2","1"]}]}`,
	`{"matchExpressions":[{"key":"a","operator":"NotIn","values":["1"]}]}`,
	`{"matchExpressions":[{"key":"a","operator":"Exists"}]}`,
	`{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}`,
	`{"matchLabels":{"a":"1"},"matchExpressions":[{"key":"b","operator":"Exists"}]}`,
	`{"matchExpressions":[{"key":"a","operator":"In"}]}`,
	`{"matchExpressions":[{"key":"a","operator":"Exists","values":["1"]}]}`,
	`{"matchExpressions":[{"key":"a","operator":"Gt","values":["1"]}]}`,
	`{"matchExpressions":[{"key":"a b","operator":"Exists"}]}`,
	`{"matchLabels":{"a":"not valid"}}`,
}

var fieldSelectors = []string{
	"", "a=1", "a==1", "a!=1", "a=1,b!=2", "b=2,a=1", "a=", "=a", "a", "a=1=2", `a=1\=2`, `a=1\,2`,
	`a=\\`, `a=\x`, `a=1\`, "a=1,,b=2", ",", "a!b", "metadata.name=x", "status.phase!=Running",
	"a=b c", "spec.nodeName=", `a=\,,b=1`, "a=é", "!=1",
}

var fieldSets = []fields.Set{
	{}, {"a": "1"}, {"a": "1", "b": "2"}, {"a": "1,2"}, {"a": "1=2"}, {"a": `\`}, {"metadata.name": "x"},
	{"status.phase": "Running"}, {"a": "b c"},
}

type selectorCase struct {
	Text    string `json:"text"`
	Error   string `json:"error,omitempty"`
	Canon   string `json:"canonical"`
	Matches []int  `json:"matches"`
}

type selectorCases struct {
	LabelSets []labels.Set   `json:"labelSets"`
	Labels    []selectorCase `json:"labels"`
	Objects   []selectorCase `json:"objects"`
	FieldSets []fields.Set   `json:"fieldSets"`
	Fields    []selectorCase `json:"fields"`
}

func selectors() selectorCases {
	cases := selectorCases{LabelSets: labelSets, FieldSets: fieldSets}
	label := func(text string, s labels.Selector, err error) selectorCase {
		if err != nil {
			return selectorCase{Text: text, Error: err.Error()}
		}
		c := selectorCase{Text: text, Canon: s.String(), Matches: []int{}}
		for i, set := range labelSets {
			if s.Matches(set) {
				c.Matches = append(c.Matches, i)
			}
		}
		return c
	}
	for _, text := range labelSelectors {
		s, err := labels.Parse(text)
		cases.Labels = append(cases.Labels, label(text, s, err))
	}
	for _, text := range objectSelectors {
		var object *metav1.LabelSelector
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			panic(err)
		}
		s, err := metav1.LabelSelectorAsSelector(object)
		cases.Objects = append(cases.Objects, label(text, s, err))
	}
	for _, text := range fieldSelectors {
		s, err := fields.ParseSelector(text)
		if err != nil {
			cases.Fields = append(cases.Fields, selectorCase{Text: text, Error: err.Error()})
			continue
		}
		c := selectorCase{Text: text, Canon: s.String(), Matches: []int{}}
		for i, set := range fieldSets {
			if s.Matches(set) {
				c.Matches = append(c.Matches, i)
			}
		}
		cases.Fields = append(cases.Fields, c)
	}
	return cases
}
