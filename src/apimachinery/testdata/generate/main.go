// Command generate asks Kubernetes' own libraries what the cases in this directory come to and
// writes the answers into the fixtures that the crate's tests compare with.
package main

import (
	"encoding/json"
	"log"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: generate <directory>")
	}
	write("quantity.json", quantities())
	write("selectors.json", selectors())
	write("time.json", times())
}

func write(name string, cases any) {
	text, err := json.MarshalIndent(cases, "", " ")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(os.Args[1], name), append(text, '\n'), 0o644); err != nil {
		log.Fatal(err)
	}
}
