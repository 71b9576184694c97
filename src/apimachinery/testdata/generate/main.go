// Command generate asks Kubernetes' own libraries what the cases in this directory come to and
// writes the answers into the fixtures that the crate's tests compare with.
package main

import (
	"bytes"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: generate <folder of the crate>")
	}
	write("testdata/quantity.json", quantities())
	write("testdata/names.json", names())
	write("testdata/selectors.json", selectors())
	write("testdata/time.json", times())
	write("patch/testdata/json.json", jsonPatchCases())
	write("patch/testdata/strategic.json", strategicCases())
	write("apply/testdata/apply.json", applyCases())
}

// write makes a list one case a line, so that a change shows which case it is.
func write[T any](name string, cases T) {
	text, err := json.Marshal(cases)
	if err != nil {
		log.Fatal(err)
	}
	var list []json.RawMessage
	if json.Unmarshal(text, &list) == nil {
		text = append(append([]byte("[\n"), bytes.Join(toBytes(list), []byte(",\n"))...), "\n]"...)
	}
	text = append(text, '\n')
	if err := os.WriteFile(filepath.Join(os.Args[1], name), text, 0o644); err != nil {
		log.Fatal(err)
	}
}

func toBytes(list []json.RawMessage) [][]byte {
	lines := make([][]byte, len(list))
	for i, line := range list {
		lines[i] = line
	}
	return lines
}
