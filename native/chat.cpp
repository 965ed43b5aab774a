// Chat templates, by llama.cpp's Jinja engine (chat.go).
#include "guard.h"

#include "chat.h"
#include "common.h"
#include "json.h"

#include <memory>

struct nl_chat {
    common_chat_templates_ptr tmpls;
};

nl_result nl_chat_new(const llama_model * m, const char * tmpl, const char * bos, const char * eos) {
    return guarded([&](nl_result & r) {
        std::unique_ptr<nl_chat> t(new nl_chat());
        // common_chat_templates_init rethrows a parse error as a plain
        // std::exception; parsing here first keeps its text.
        if (tmpl[0] != 0 && strcmp(tmpl, "chatml") != 0) {
            jinja::lexer lexer;
            auto         tokens = lexer.tokenize(tmpl);
            jinja::parse_from_tokens(tokens);
        }
        t->tmpls = common_chat_templates_init(m, tmpl, bos, eos);
        r.p      = t.release();
    });
}

nl_result nl_chat_free(nl_chat * t) {
    return guarded([&](nl_result &) { delete t; });
}

nl_result nl_chat_source(nl_chat * t, const char * variant) {
    return guarded([&](nl_result & r) { r.p = copy_string(common_chat_templates_source(t->tmpls.get(), variant)); });
}

nl_result nl_chat_caps(nl_chat * t) {
    return guarded([&](nl_result & r) {
        common_json j = common_json::object();
        for (const auto & kv : common_chat_templates_get_caps(t->tmpls.get())) {
            j[kv.first] = kv.second;
        }
        j["enable_thinking"] = common_chat_templates_support_enable_thinking(t->tmpls.get());
        r.p = copy_string(j.dump());
    });
}

static nl_string copy_bytes(const std::string & s) {
    nl_string r = { copy_string(s), s.size() };
    if (r.p == nullptr) {
        throw std::bad_alloc();
    }
    return r;
}

static common_chat_templates_inputs chat_inputs(const common_json & req) {
    common_chat_templates_inputs in;
    in.messages              = common_chat_msgs_parse_oaicompat(req.at("messages"));
    in.add_generation_prompt = req.value("add_generation_prompt", true);
    in.enable_thinking       = req.value("enable_thinking", true);
    in.grammar               = req.value("grammar", "");
    in.parallel_tool_calls   = req.value("parallel_tool_calls", false);
    in.force_pure_content    = req.value("plain", false);
    in.use_jinja             = true;
    if (req.contains("tools")) {
        in.tools = common_chat_tools_parse_oaicompat(req.at("tools"));
    }
    if (req.contains("tool_choice")) {
        in.tool_choice = common_chat_tool_choice_parse_oaicompat(req.at("tool_choice").get<std::string>());
    }
    if (req.contains("json_schema")) {
        in.json_schema = req.at("json_schema").dump();
    }
    if (req.contains("reasoning_format")) {
        in.reasoning_format = common_reasoning_format_from_name(req.at("reasoning_format").get<std::string>());
    }
    if (req.contains("continue_final_message")) {
        in.continue_final_message = common_chat_continuation_parse(req.at("continue_final_message"));
    }
    if (req.contains("kwargs")) {
        for (const auto & kv : req.at("kwargs").items()) {
            in.chat_template_kwargs[kv.key()] = kv.value().dump();
        }
    }
    return in;
}

static common_json chat_details(const common_chat_params & p) {
    common_json d          = common_json::object();
    d["stops"]             = p.additional_stops;
    d["grammar"]           = p.grammar;
    d["grammar_lazy"]      = p.grammar_lazy;
    d["format"]            = (int) p.format;
    d["format_name"]       = common_chat_format_name(p.format);
    d["parser"]            = p.parser;
    d["generation_prompt"] = p.generation_prompt;
    d["supports_thinking"] = p.supports_thinking;
    d["thinking_start"]    = p.thinking_start_tag;
    d["thinking_end"]      = p.thinking_end_tags;
    d["preserved_tokens"]  = p.preserved_tokens;
    return d;
}

nl_chat_result nl_chat_render(nl_chat * t, const char * request, size_t n) {
    nl_chat_result out = {};
    nl_result      r   = guarded([&](nl_result &) {
        const common_json req = common_json::parse(std::string(request, n));
        const auto        p   = common_chat_templates_apply(t->tmpls.get(), chat_inputs(req));
        out.details           = copy_bytes(chat_details(p).dump_safe());
        out.prompt            = copy_bytes(p.prompt);
    });
    out.err = r.err;
    return out;
}

nl_result nl_chat_parse(nl_chat *, const char * request, size_t n) {
    return guarded([&](nl_result & r) {
        const common_json         req = common_json::parse(std::string(request, n));
        common_chat_parser_params p;
        const int                 format = req.at("format").get<int>();
        if (format < 0 || format >= COMMON_CHAT_FORMAT_COUNT) {
            fail("unknown chat format");
        }
        p.format            = (common_chat_format) format;
        p.generation_prompt = req.value("generation_prompt", "");
        p.parse_tool_calls  = req.value("parse_tool_calls", true);
        p.reasoning_format  = common_reasoning_format_from_name(req.value("reasoning_format", "none"));
        const std::string parser = req.value("parser", "");
        if (!parser.empty()) {
            p.parser.load(parser);
        }
        const auto msg = common_chat_parse(req.at("text").get<std::string>(), req.value("partial", false), p);
        r.p = copy_string(msg.to_json_oaicompat(true).dump_safe());
    });
}
