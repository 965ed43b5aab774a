package journal

import (
	"encoding/json"
	"time"
)

// Row is one event: a job that succeeded, or one whose tries are used up.
type Row struct {
	Key     string `json:"key"`   // of the job
	Run     string `json:"run"`   // hash of what the keys of a run have in common
	Kind    string `json:"kind"`  // "scene", "dialogue", "identity" or "protective"
	Group   string `json:"group"` // hash of the paragraph or scene that the job belongs to
	Ordinal int    `json:"ordinal"`
	Attempt int    `json:"attempt"` // the try that this is, from 1; it counts anew in every run of the program
	// Reason is empty on success, else why the last try failed; Detail says more.
	Reason     string `json:"reason,omitempty"`
	Detail     string `json:"detail,omitempty"`
	DoneReason string `json:"done_reason,omitempty"`

	Model        string          `json:"model"`
	Format       string          `json:"format"` // "json" or "text"
	Options      json.RawMessage `json:"options,omitempty"`
	Seed         int             `json:"seed"`
	PromptSHA256 string          `json:"prompt_sha256,omitempty"` // of the messages as sent
	Prompt       string          `json:"prompt,omitempty"`        // the user message as sent; on success only

	At           time.Time `json:"created_at"`
	DurationMS   int64     `json:"duration_ms"`
	PromptTokens int       `json:"prompt_eval_count"`
	Tokens       int       `json:"eval_count"`
	Call         string    `json:"call,omitempty"` // rows of one answer have the same; tokens and time are the call's

	Profile string `json:"profile,omitempty"` // the paragraph of a scene or protective dialogue
	Scene   *Scene `json:"scene,omitempty"`   // of a dialogue

	Answer string `json:"answer,omitempty"` // the model's text; of a scene, the one scene as JSON
	Tries  []Try  `json:"tries,omitempty"`  // those before this one, or all of a failure
}

// Scene is the scene that a dialogue was asked for.
type Scene struct {
	Type       string `json:"type"`
	Location   string `json:"location"`
	Background string `json:"background"`
	Source     string `json:"source,omitempty"`
}

// Try is a call whose answer was not taken.
type Try struct {
	Reason       string `json:"reason"`
	Detail       string `json:"detail,omitempty"`
	DoneReason   string `json:"done_reason,omitempty"`
	Seed         int    `json:"seed"`
	PromptSHA256 string `json:"prompt_sha256,omitempty"`
	DurationMS   int64  `json:"duration_ms"`
	PromptTokens int    `json:"prompt_eval_count"`
	Tokens       int    `json:"eval_count"`
	Answer       string `json:"answer,omitempty"` // its begin
}

// OK tells whether the row is a success.
func (r *Row) OK() bool { return r.Reason == "" }
