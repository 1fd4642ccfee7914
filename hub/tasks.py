PIPELINE_FILE = "/work/main/hub/pipeline_unirs.py"


def register_pipelines():
    pass
