"""The words around the pictures: markers, task tags, default instructions and the chat template."""

MAX_FRAMES = 64
IMAGE_MARKER = "<image>"  # one picture
CHANGE_MARKER = "<Change Feature>"  # two pictures, before and after, fused into one feature map
VIDEO_MARKER = "<video>"  # one clip; becomes <Frame 1> ... <Frame K>
FRAME_MARKERS = tuple(f"<Frame {number}>" for number in range(1, MAX_FRAMES + 1))

# A private-use character that the chat template writes behind every "<" of ordinary text, and that the tokenizer
# drops after it has looked for special tokens: so "<image>" or "</s>" typed by a user stays text.
ESCAPE = "\ue000"

SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

# Paper section III-C: the tag that tells the tasks apart.
TASK_TAGS = {
    "single": "Single image understanding:",
    "pair": "Remote sensing change captioning:",
    "video": "Video scene classification:",
}

ERA_CLASSES = (
    "Post-earthquake",
    "Flood",
    "Fire",
    "Landslide",
    "Mudslide",
    "Traffic collision",
    "Traffic congestion",
    "Harvesting",
    "Ploughing",
    "Constructing",
    "Police chase",
    "Conflict",
    "Baseball",
    "Basketball",
    "Boating",
    "Cycling",
    "Running",
    "Soccer",
    "Swimming",
    "Car racing",
    "Party",
    "Concert",
    "Parade/protest",
    "Religious activity",
    "Non-event",
)

# Table I of the paper, for pictures that come without a question.
DEFAULT_INSTRUCTIONS = {
    "single": "Describe this remote sensing image in detail.",
    "pair": "Please identify whether there are obvious remote sensing image changes.",
    "video": "Classify the given video in one of the following classes. Classes: " + ", ".join(ERA_CLASSES) + ".",
}

# Table II of the paper: what the frozen base model is asked for its clue.
CLUE_PROMPTS = {
    "single": "Describe this remote sensing image in detail.",
    "pair": "Please identify whether there are obvious remote sensing image changes.",
    "video": "Please classify the scene in this video captured by the UAV.",
}

ITEM_TYPES = ("text", "clue", "image", "video")  # of message contents; image_url and video_url become image and video
UNKNOWN_ITEM = (  # dropped, a picture under another name would be answered without having been seen
    "a message has a content item of type TYPE; the types are text, clue, image, image_url, video and video_url"
)

# vicuna_v1: "<system> USER: <markers>\n<tag> <instruction> Clue: <clue> ASSISTANT: <answer></s>USER: ...".
# Options: change_extraction=False sends a pair as two plain images; task_tag=False leaves the tag out.
CHAT_TEMPLATE = (
    r"""
{%- macro text_of(message) -%}
    {%- if message.content is string -%}
        {{- message.content | trim -}}
    {%- else -%}
        {%- for item in message.content if item.type not in ITEM_TYPES -%}
            {{- raise_exception('UNKNOWN_ITEM' | replace('TYPE', item.type)) -}}
        {%- endfor -%}
        {%- set texts = message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') -%}
        {{- texts | reject('none') | join(' ') | trim -}}
    {%- endif -%}
{%- endmacro -%}
{%- set tags = TAGS -%}
{%- set instructions = INSTRUCTIONS -%}
{%- set escape = '<ESCAPE' -%}
{%- if bos_token is defined and bos_token -%}{{- bos_token + ' ' -}}{%- endif -%}
{%- if messages[0].role == 'system' -%}
    {{- text_of(messages[0]) | replace('<', escape) -}}
{%- else -%}
    {{- 'SYSTEM' -}}
{%- endif -%}
{{- ' ' -}}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}
        {{- 'USER: ' -}}
        {%- set found = namespace(task='', clue='') -%}
        {%- if message.content is not string -%}
            {%- set images = message.content | selectattr('type', 'equalto', 'image') | list | length -%}
            {%- set videos = message.content | selectattr('type', 'equalto', 'video') | list | length -%}
            {%- for item in message.content if item.type == 'clue' -%}
                {%- set found.clue = (item.text or '') | trim -%}
            {%- endfor -%}
            {%- if images == 2 and change_extraction | default(true) -%}
                {{- 'CHANGE\n' -}}
            {%- elif images > 2 -%}
                {{- 'VIDEO\n' -}}
            {%- else -%}
                {{- 'IMAGE\n' * images -}}
            {%- endif -%}
            {{- 'VIDEO\n' * videos -}}
            {%- if videos or images > 2 -%}{%- set found.task = 'video' -%}
            {%- elif images == 2 -%}{%- set found.task = 'pair' -%}
            {%- elif images == 1 -%}{%- set found.task = 'single' -%}
            {%- endif -%}
        {%- endif -%}
        {%- set text = text_of(message) -%}
        {%- if found.task and task_tag | default(true) -%}{{- tags[found.task] + ' ' -}}{%- endif -%}
        {%- if found.task and not text -%}{%- set text = instructions[found.task] -%}{%- endif -%}
        {{- text | replace('<', escape) -}}
        {%- if found.clue -%}{{- ' Clue: ' + found.clue | replace('<', escape) -}}{%- endif -%}
        {{- ' ' -}}
    {%- elif message.role == 'assistant' -%}
        {{- 'ASSISTANT:' -}}
        {%- generation -%}
            {{- ' ' + text_of(message) | replace('<', escape) + eos_token -}}
        {%- endgeneration -%}
    {%- elif message.role != 'system' or not loop.first -%}
        {{- raise_exception('a conversation has the roles user and assistant, and system at its start only') -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
""".strip()
    .replace("ITEM_TYPES", repr(ITEM_TYPES))
    .replace("UNKNOWN_ITEM", UNKNOWN_ITEM)
    .replace("TAGS", repr(TASK_TAGS))
    .replace("INSTRUCTIONS", repr(DEFAULT_INSTRUCTIONS))
    .replace("'SYSTEM'", repr(SYSTEM_PROMPT))
    .replace("IMAGE", IMAGE_MARKER)
    .replace("CHANGE", CHANGE_MARKER)
    .replace("VIDEO", VIDEO_MARKER)
    .replace("ESCAPE", ESCAPE)
)

__all__ = [
    "CHANGE_MARKER",
    "CHAT_TEMPLATE",
    "CLUE_PROMPTS",
    "DEFAULT_INSTRUCTIONS",
    "ERA_CLASSES",
    "ESCAPE",
    "FRAME_MARKERS",
    "IMAGE_MARKER",
    "ITEM_TYPES",
    "MAX_FRAMES",
    "SYSTEM_PROMPT",
    "TASK_TAGS",
    "UNKNOWN_ITEM",
    "VIDEO_MARKER",
]
