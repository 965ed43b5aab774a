package train

import (
	"encoding/json"
	"fmt"
)

// event is one line of the trainer. Which fields are set depends on Event.
type event struct {
	Event string `json:"event"`

	Text string `json:"text"` // sample, error
	Kind string `json:"kind"` // error: base, data, length, memory, loss, usage, crash
	Path string `json:"path"` // base, checkpoint

	Spans  [][2]int `json:"spans"` // sample
	Labels []int    `json:"labels"`
	IDs    []int    `json:"ids"`

	Records   int            `json:"records"` // data
	Train     int            `json:"train"`
	Eval      int            `json:"eval"`
	Tokens    float64        `json:"tokens"` // step too: seen so far
	Learned   int            `json:"learned"`
	Longest   int            `json:"longest"`
	TooLong   int            `json:"too_long"`
	MaxLength int            `json:"max_length"`
	EndTokens map[string]int `json:"end_tokens"` // done too

	Versions  map[string]string `json:"versions"` // start
	Device    string            `json:"device"`
	Processes int               `json:"processes"`
	Optimizer string            `json:"optimizer"`
	Compute   string            `json:"compute"`

	Step            int64    `json:"step"` // begin, step, eval, checkpoint, interrupted, done
	Steps           int64    `json:"steps"`
	Epoch           float64  `json:"epoch"`
	Loss            *float64 `json:"loss"` // nil when it is not a number
	EvalLoss        *float64 `json:"eval_loss"`
	GradNorm        *float64 `json:"grad_norm"`
	LearningRate    float64  `json:"learning_rate"`
	TokensPerSecond float64  `json:"tokens_per_second"`
	Memory          int64    `json:"memory"` // peak, bytes

	TrainLoss       *float64        `json:"train_loss"` // done
	BestEvalLoss    *float64        `json:"best_eval_loss"`
	BestStep        *int64          `json:"best_step"`
	BaseQuant       json.RawMessage `json:"base_quant"`
	EOSTokenID      json.RawMessage `json:"eos_token_id"`
	PadTokenID      json.RawMessage `json:"pad_token_id"`
	GenerationEOSID json.RawMessage `json:"generation_eos_token_id"`
	Trainable       int64           `json:"trainable"`
}

// parseEvent reads a line; ok tells whether it is an event at all.
func parseEvent(line []byte) (e event, ok bool) {
	return e, json.Unmarshal(line, &e) == nil && e.Event != ""
}

// kinds says which sentinel an error of the trainer is.
var kinds = map[string]error{"base": ErrBase, "length": ErrTooLong, "memory": ErrMemory}

// err is the error that an event of that name reports.
func (e *event) err() error {
	if sentinel, ok := kinds[e.Kind]; ok {
		return fmt.Errorf("%w: %s", sentinel, e.Text)
	}
	return fmt.Errorf("trainer: %s", e.Text)
}
