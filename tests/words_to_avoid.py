"""The table of words and phrases to avoid, each with what to write instead (see test_english.py)."""

from typing import NamedTuple


class Ban(NamedTuple):
    """Words to avoid; a blank in the pattern also matches a line break."""

    pattern: str
    instead: str
    example: str


BANS = (
    # Words that are not the field's.
    Ban("somebody", "another process, another user", "held by somebody else"),
    Ban("nobody", "no one; or name who is missing", "there is nobody to ask"),
    Ban("whoever", "anyone who, the process that", "whoever holds the lock"),
    Ban("shall", "must, will", "it shall run"),
    Ban("mend(s|ed|ing)?", "fix", "mended here"),
    Ban("anew", "again", "asked anew"),
    Ban("hurry|calm", "deadline; name the condition", "in a hurry"),
    Ban("patience", "the time limit for retries", "when patience ends"),
    Ban("settl(e|es|ed|ing)", "resolve (intents); consistency delay", "it settles the request"),
    Ban("told", "reported, passed, named", "the error is told"),
    Ban(r"tells? (\w+ )?apart", "distinguish", "can't tell them apart"),
    Ban("be had", "be available, be offered", "no spot VM can be had"),
    Ban("all the same", "anyway, nevertheless", "done all the same"),
    Ban("of before", "previous, earlier", "the version of before"),
    Ban("(its|their) end", "its termination, its exit", "waits for its end"),
    Ban(
        "(the|an) end of (everything|these|this|those)",
        "destroy, terminate",
        "the end of everything",
    ),
    Ban(
        r"(?<!the\x20)end(s|ed|ing)? "
        r"((a|an|the|its|their|all|every|these|those|some|any|other) )?"
        r"(VMs?|nodes?|clusters?|machines?|workers?)",
        "terminate (a VM), destroy (a cluster), stop (a process)",
        "it ends the VM",
    ),
    Ban("asked to end", "asked to terminate; did not terminate", "VMs were asked to end"),
    Ban("ends? by (itself|themselves)", "terminates itself, stops", "it ends by itself"),
    Ban("on (its|their) way to", "is shutting down, is starting", "on its way to its end"),
    Ban("takes? (it|them) in|taken in (again|to)|taken into the state", "adopt", "takes it in"),
    Ban(
        r"lets? (them|him|it|us|me|you|others|networks) in|(is|are|be|to) let in",
        "allow",
        "networks are let in",
    ),
    Ban("(is|are|was|were|be|been) asked for", "is requested, is required", "what is asked for"),
    Ban("(nothing|something|anything) (more )?is asked", "no request is sent", "nothing is asked"),
    Ban("asks? nothing", "sends no request", "it asks nothing of the cloud"),
    Ban("(is|are) said( that| with| by|[.:])", "is reported", "it is said that it waits"),
    Ban("has not said", "is unknown", "the holder has not said who it is"),
    Ban(r"say(s|ing)? --\w+(-\w+)*", "pass --option", "say --auto-approve"),
    Ban("not there( yet)?", "does not exist (yet)", "the node is not there yet"),
    Ban("where there (is|are|was|were)", "if there is", "where there is no scheduler"),
    Ban("stands? in (the|a|an|it|one)", "is in the", "the key stands in the spec"),
    Ban("knows? no", "does not support, has no", "the driver knows no spot VMs"),
    Ban("(is|are) (no longer )?ours", "this process holds it", "the lock is ours"),
    Ban("will have it", "sets, decides", "as scale will have it"),
    Ban("of (no )?use(?! of)", "useful, useless", "it is of no use"),
    Ban("one (vm )?too many", "duplicate", "one VM too many"),
    Ban("without a word", "without a message, when killed", "it dies without a word"),
    Ban("by (its|their) words", "apparently; name the evidence", "a proxy, by its words"),
    Ban("as dear|dearer", "as expensive, more expensive", "twice as dear"),
    Ban("small letters", "lowercase", "in small letters"),
    Ban("for ever", "forever", "they run for ever"),
    Ban("under way", "in progress", "a request is under way"),
    Ban("(is|are) there already", "already exists", "the file is there already"),
    Ban(
        r"(?<!there\x20)(is|are) no (address|file|folder|plan file|place|spec|state|text)",
        "is not a …",
        "it is no plan file",
    ),
    # British spellings.
    Ban(
        r"(col|behavi|fav|hon|lab|neighb|endeav)our\w*",
        "-or",
        "a colour",
    ),
    Ban("licence[sd]?", "license", "the licence"),
    Ban("(def|off|pret)ence", "-ense", "in defence of"),
    Ban("cent(re|res|red)", "center", "in the centre"),
    Ban("grey", "gray", "a grey line"),
    Ban(
        "(cancel|label|model|signal|travel|level|marshal|channel)l(ed|ing)",
        "one l",
        "it was cancelled",
    ),
    Ban(
        "(initial|organ|recogn|serial|normal|optim|custom|synchron|author|minim|maxim|summar|prior|"
        "general|special|real|util|visual|final|local|capital|emphas|categor)is(e|es|ed|ing|ation)",
        "-ize, -ization",
        "it is initialised",
    ),
    Ban("(anal|paral|catal)ys(e|ed|es|ing)", "-yze", "to analyse it"),
    Ban("whilst|amongst", "while, among", "whilst it runs"),
    Ban("learnt|spelt|burnt", "learned, spelled, burned", "what was learnt"),
    Ban("programme|artefact|judgement|fulfil(s|ment)?|enrol(s)?", "US spelling", "an artefact"),
)

PAGE_BANS = (Ban(r"\w+-\[\d+\.\.\d+\]", "hostlist syntax: cpu-[0-3]", "cpu-[0..3]"),)

MESSAGE_BANS = (
    Ban("can't (be|have|do|find|read|write|reach|say)", "cannot <verb>", "the state can't be read"),
)

_HEADLESS = r"(What|Who|Whose|Whom|Whoever|Whatever|Those|Which|That which|One that)\b|As `"
DOCSTRING_BANS = (
    Ban(_HEADLESS, "a noun phrase; for a function, an imperative verb", "What the cloud shows."),
)
FUNCTION_BANS = (
    Ban(_HEADLESS, "an imperative verb: Return …", "As `find`, but for strays."),
    Ban(
        "(A|An|The|All|Each|Every|Any|Some|Both|Its|Their|It|They|This|These|If|How|Where|When|Why|"
        "Whether|Of|For|From|In|On|With|Without|Only|Seconds|Itself|Names?|None|True|False|Such)\\b",
        "an imperative verb: Return …, Wait until …",
        "The VMs that run.",
    ),
    Ban("Gives?\\b", "Return", "Give the state."),
    Ban(
        "(Ask(?! for approval)|Tell|Say|Look(?! up| for))s?\\b",
        "Request, Report, Print, Check",
        "Tell the user.",
    ),
    Ban("Ends?\\b", "Terminate, Stop, Finish", "End these VMs."),
    Ban(
        "(Return|Raise|Wait|Write|Read|Take|Keep|Run|Make|Create|Remove|Free|Exclude|Replace|Break|"
        "Block|Know|Add|Set|Get|Show|Send)s\\b",
        "the imperative, without -s",
        "Returns the state.",
    ),
)
