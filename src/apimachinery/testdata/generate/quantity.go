package main

import "k8s.io/apimachinery/pkg/api/resource"

// quantityTexts covers every suffix, the rounding, the limits and what is refused.
var quantityTexts = []string{
	"0", "00", "-0", "+", "-", ".", "", "1", "+1", "-1", "1.", ".5", "0.5", "1.5", "1.500", "1.001",
	"0.001", "0.0001", "1000", "1500", "1000000", "123456789", "1000.5", "100m", "1000m", "1500m",
	"0.1m", "1n", "1000n", "0.1n", "-0.1n", "1u", "999u", "1k", "1.5k", "10k", "1000k", "1M", "1G",
	"1T", "1P", "1E", "9E", "10E", "1Ki", "7Ki", "8Ki", "1024Ki", "1023Ki", "1.5Ki", "0.5Ki",
	"0.1Ki", "1000Ki", "1Mi", "1.5Mi", "1Gi", "0.1Gi", "1.5Gi", "100Gi", "1Ti", "1Pi", "1Ei", "7Ei",
	"8Ei", "9Ei", "-8Ei", "-1Ki", "-1.5Gi", "-0.5Ki", "0.0000001Ki", "0Ki", "1e3", "1E3", "1e0", "1e-3",
	"5e+3", "12e6", "1.5e9", "1e-9", "1e-10", "-1e-10", "1e1", "1e2", "123e-1", "5E", "5e", "e5", "Ki", "5K",
	"5Kii", "5K5", "5 ", " 5", "abc", "1.5.5", "1a", "--1", "1-", "1e-", "1e+", "12345678901234567",
	"123456789012345678", "1234567890123456789", "9223372036854775807", "9223372036854775808",
	"92233720368547758070", "1234567890123456789012345", "0.123456789", "0.1234567891",
	"1.0000000001", "123456789.123456789", "123456789012.1234567891", "999999999999999999.9999999999",
	"1.2345678901234567890Ki", "1.2345678901234567890123Gi", "12345678901234567890Ki", "4Ti", "3.7Ti",
	"0.25", "2.50", "250m", "0.250", "3e30", "1Mi5", "1mi", "1KI", "1gi", "100", "2000Mi", "2048Mi",
	"900719925474099.3", "1.0", "1000.0", "1e21", "5000000000", "1.1G", "1e-6", "15e-4", "64Mi", "128Mi",
}

type quantityCase struct {
	Text  string  `json:"text"`
	Error string  `json:"error,omitempty"`
	Canon string  `json:"canonical,omitempty"`
	Value int64   `json:"value"`
	Milli int64   `json:"milli"`
	Float float64 `json:"float"`
	// Sum is the canonical form of the quantity plus 1500m, Diff of 1Gi less the quantity.
	Sum  string `json:"sum,omitempty"`
	Diff string `json:"diff,omitempty"`
}

func quantities() []quantityCase {
	var cases []quantityCase
	for _, text := range quantityTexts {
		q, err := resource.ParseQuantity(text)
		if err != nil {
			cases = append(cases, quantityCase{Text: text, Error: err.Error()})
			continue
		}
		sum, diff := q.DeepCopy(), resource.MustParse("1Gi")
		sum.Add(resource.MustParse("1500m"))
		diff.Sub(q)
		cases = append(cases, quantityCase{
			Text: text, Canon: q.String(), Value: q.Value(), Milli: q.MilliValue(),
			Float: q.AsFloat64Slow(), Sum: sum.String(), Diff: diff.String(),
		})
	}
	return cases
}
