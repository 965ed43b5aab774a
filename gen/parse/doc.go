// Package parse turns what generators wrote (free text with all its malformed shapes, or JSON by a schema) into
// scenes and dialogues. It never writes text of its own: what it cannot read is left out, with a code and a
// count. Names come from the persona card only.
package parse

// The codes of what is left out: rows, scenes and turns.
const (
	CodeCheckFailed     = "check_failed"      // the generator marked the row as failed
	CodeDamaged         = "damaged"           // no JSON
	CodeDuplicate       = "duplicate"         // the same id and text again
	CodeEmpty           = "empty"             // no reply
	CodeShort           = "short"             // a reply of fewer than 100 characters
	CodeDegenerate      = "degenerate"        // the same letters again and again
	CodeRefusal         = "refusal"           // the model speaks as a model
	CodePromptEcho      = "prompt_echo"       // the example of the prompt again
	CodeNoTurns         = "no_turns"          // nobody speaks
	CodeTooFewTurns     = "too_few_turns"     // fewer than 2 turns
	CodeNoCharacterTurn = "no_character_turn" // the character does not speak
	CodeUnknownSpeaker  = "unknown_speaker"   // not on the card
	CodeUnnamedSpeaker  = "unnamed_speaker"   // 캐릭터1
	CodePlaceholder     = "placeholder"       // a word of the prompt in place of an utterance
	CodeEmptyTurn       = "empty_turn"        // a head without an utterance
	CodeTruncated       = "truncated"         // the reply was cut off
	CodeInventedTurn    = "invented_turn"     // a question that an older parser put in
	CodeCloser          = "closer"            // a remark behind the dialogue: counted, nothing is lost

	CodeNoScenes             = "no_scenes"
	CodeAbbreviated          = "abbreviated" // "scenes 11 to 20: as above"
	CodeEmptyBackground      = "empty_background"
	CodeIncompleteBackground = "incomplete_background"
	CodeMissingType          = "missing_type"
	CodeMissingLocation      = "missing_location"
)
