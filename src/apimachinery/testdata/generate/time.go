package main

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var timeTexts = []string{
	"2024-02-29T12:34:56Z", "2024-02-29T12:34:56+01:00", "2024-02-29T12:34:56-12:30",
	"2024-02-29T12:34:56.1Z", "2024-02-29T12:34:56.123456Z", "2024-02-29T12:34:56.123456789Z",
	"2024-02-29T12:34:56.123456+02:00", "2024-02-29T12:34:56,5Z", "2024-02-29T12:34:56,123456Z",
	"0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59Z", "2023-02-29T00:00:00Z",
	"2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "2024-01-32T00:00:00Z", "2024-01-00T00:00:00Z",
	"2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z", "2024-01-01T00:00:60Z", "2024-01-01T00:00:00z",
	"2024-01-01t00:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-01-01", "", "x",
	"2024-1-01T00:00:00Z", "2024-01-01T0:00:00Z", "2024-01-01T00:00:00ZZ", "2024-01-01T00:00:00.Z",
	"2024-01-01T00:00:00+0100", "2024-01-01T00:00:00+01", "2024-01-01T00:00:00+25:00",
	"2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+01:61", "20240101T000000Z", "+2024-01-01T00:00:00Z",
	"2024-01-01T00:00:00.1234567Z", "2024-01-01T00:00:00\n", "2024-01-01T00:00:00é",
	"0", "+0", "-0", "1", "1s", "1.5s", "-1.5h", "300ms", "2h45m", "1h0m0s", "1us", "1µs", "1μs", "1ns", "100h",
	".5s", "1.s", ".s", "1h1", "1d", "1 s", "s", "-", "+", "9223372036854775807ns", "9223372036854775808ns",
	"-9223372036854775808ns", "9999999h", "1.0000000001s", "0.100000000000000000000h", "3000000h", "1m1m",
	"1.123456789s", "0.3333333333333333333h", "1h1m1s1ms1us1ns", "99999999999999999999s",
}

type timeCase struct {
	Text     string `json:"text"`
	Seconds  string `json:"seconds"`
	Micros   string `json:"micros"`
	Duration string `json:"duration"`
}

func times() []timeCase {
	round := func(text string, into any) string {
		in, _ := json.Marshal(text)
		if err := json.Unmarshal(in, into); err != nil {
			return err.Error()
		}
		out, err := json.Marshal(into)
		if err != nil {
			return err.Error()
		}
		var shown *string
		if err := json.Unmarshal(out, &shown); err != nil {
			return err.Error()
		}
		if shown == nil {
			return "null"
		}
		return *shown
	}
	var cases []timeCase
	for _, text := range timeTexts {
		cases = append(cases, timeCase{
			text, round(text, &metav1.Time{}), round(text, &metav1.MicroTime{}), round(text, &metav1.Duration{}),
		})
	}
	return cases
}
