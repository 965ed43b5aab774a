package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/persona-gguf/persona-gguf/persona"
)

// TestAdapterIsOfTheseRecords: the example's adapter says that it was trained on the records that this program makes.
func TestAdapterIsOfTheseRecords(t *testing.T) {
	records, err := makeRecords("..")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := persona.WriteRecords(&text, records); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../adapter/training.json")
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Data string `json:"data_sha256"`
	}
	if err := json.Unmarshal(data, &made); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(text.Bytes())); made.Data != want {
		t.Errorf("training.json: data_sha256: got %s, want %s: make the adapter again with make_adapter.sh", made.Data, want)
	}
	splits := map[string]int{}
	for _, r := range records {
		splits[r.Split]++
	}
	if splits["train"] < 5000 || splits["eval"] != 126 {
		t.Errorf("got %v records, want thousands to train on and 126 held out", splits)
	}
}
